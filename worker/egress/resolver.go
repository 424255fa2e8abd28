package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/worker/driver"
)

// resolver answers an environment's questions for addresses of names, by its policy.
type resolver struct {
	rules  *rules
	names  *names
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	now    func() time.Time
	// refused is told of a name that was not answered.
	refused func(driver.Refused)
}

// question reads a query: one question, of the internet. ok is false for what gets no answer at all.
func question(query []byte) (h dnsmessage.Header, q dnsmessage.Question, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return h, q, false
	}
	q, err = p.Question()
	if err != nil {
		return h, q, false
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return h, q, false
	}
	return h, q, true
}

// answer is the reply to a query; nil if there is none to give.
func (r *resolver) answer(ctx context.Context, query []byte) []byte {
	h, q, ok := question(query)
	if !ok {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	switch {
	case h.OpCode != 0 || q.Class != dnsmessage.ClassINET:
		return reply(h, q, dnsmessage.RCodeNotImplemented, nil, 0)
	case q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA:
		return reply(h, q, dnsmessage.RCodeNotImplemented, nil, 0)
	case !schema.HostName(name) || name == "localhost" || strings.HasSuffix(name, ".localhost"):
		return reply(h, q, dnsmessage.RCodeNameError, nil, 0)
	}
	if addr, is := r.rules.host(name); is {
		if !addr.IsValid() {
			return reply(h, q, dnsmessage.RCodeNameError, nil, 0)
		}
		return reply(h, q, dnsmessage.RCodeSuccess, family([]netip.Addr{addr}, q.Type), nameLife)
	}
	if !r.rules.asks(name) {
		r.refused(driver.Refused{Name: name, Why: driver.RefusedName})
		return reply(h, q, dnsmessage.RCodeRefused, nil, 0)
	}
	now := r.now()
	g, known := r.names.know(name, now)
	if !known || !g.tells(q.Type) {
		var code dnsmessage.RCode
		if g, code = r.find(ctx, name); code != dnsmessage.RCodeSuccess {
			return reply(h, q, code, nil, 0)
		}
	}
	if !g.tells(q.Type) {
		return reply(h, q, dnsmessage.RCodeServerFailure, nil, 0)
	}
	if len(g.addrs) == 0 {
		return reply(h, q, dnsmessage.RCodeNameError, nil, 0)
	}
	return reply(h, q, dnsmessage.RCodeSuccess, family(g.addrs, q.Type), g.until.Sub(now))
}

// find asks the name servers and remembers what of their answer may be given, as much of it as fits into an answer of ours: a server
// that a function chose must not fill our memory. No address at all means that there is no such name.
func (r *resolver) find(ctx context.Context, name string) (given, dnsmessage.RCode) {
	addrs, err := r.lookup(ctx, name)
	var failure *net.DNSError
	part := err != nil && !(errors.As(err, &failure) && failure.IsNotFound)
	if part && len(addrs) == 0 {
		return given{}, dnsmessage.RCodeServerFailure
	}
	now := r.now()
	good := make([]netip.Addr, 0, len(addrs))
	var bad netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap()
		if r.rules.gives(addr) {
			good = append(good, addr)
		} else {
			bad = addr
		}
	}
	if len(addrs) > 0 && len(good) == 0 {
		r.refused(driver.Refused{Name: name, To: netip.AddrPortFrom(bad, 0), Why: driver.RefusedName, What: schema.Unreachable(bad)})
		return given{}, dnsmessage.RCodeRefused
	}
	g := given{append(family(good, dnsmessage.TypeA), family(good, dnsmessage.TypeAAAA)...), now.Add(nameLife), part}
	if len(addrs) == 0 {
		g.until = now.Add(noNameLife)
	}
	if old, known := r.names.know(name, now); known && part {
		g = old.with(g)
	}
	if !r.names.give(name, g, now) {
		r.refused(driver.Refused{Name: name, Why: driver.RefusedRate})
		return given{}, dnsmessage.RCodeRefused
	}
	return g, dnsmessage.RCodeSuccess
}

// tells reports whether it is an answer to a question of the kind: what nobody answered is asked again, and not taken for a no.
func (g given) tells(kind dnsmessage.Type) bool { return !g.part || len(family(g.addrs, kind)) > 0 }

// with adds a later answer for one family, beside which what is known of the other still holds.
func (g given) with(later given) given {
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		if later.tells(kind) {
			continue
		}
		if !g.tells(kind) {
			return later
		}
		later.addrs, later.until, later.part = append(later.addrs, family(g.addrs, kind)...), g.until, false
	}
	return later
}

// family are the first addresses of the kind that is asked for.
func family(addrs []netip.Addr, kind dnsmessage.Type) []netip.Addr {
	most := maxSix
	if kind == dnsmessage.TypeA {
		most = maxFour
	}
	var some []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() == (kind == dnsmessage.TypeA) && len(some) < most {
			some = append(some, addr)
		}
	}
	return some
}

// reply makes one, of at most 512 bytes.
func reply(h dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, addrs []netip.Addr, life time.Duration) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	b.EnableCompression()
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(max(0, life/time.Second))}
	for _, addr := range addrs {
		if addr.Is4() {
			err = errors.Join(err, b.AResource(head, dnsmessage.AResource{A: addr.As4()}))
		} else {
			err = errors.Join(err, b.AAAAResource(head, dnsmessage.AAAAResource{AAAA: addr.As16()}))
		}
	}
	out, last := b.Finish()
	if errors.Join(err, last) != nil {
		return nil
	}
	return out
}

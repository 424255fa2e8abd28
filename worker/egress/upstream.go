package egress

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sourcegraph/conc"
	"golang.org/x/net/dns/dnsmessage"
)

// upstream asks name servers for the addresses of names, and nobody else. What the host knows of itself is not a function's to learn:
// its search domains and /etc/hosts, which package net would take, are left out, and so is the stub of systemd-resolved, which
// answers from the latter; the servers behind it are asked. Safe for concurrent use.
type upstream struct {
	fixed    string   // host:port; "" means those of the files
	settings []string // files as resolv.conf(5), see hostServers

	mu      sync.Mutex
	servers []string
	read    time.Time
}

// hostSettings are the host's: what it uses, and what systemd-resolved asks where that is itself.
var hostSettings = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// stubs are where systemd-resolved answers.
var stubs = []string{"127.0.0.53", "127.0.0.54"}

const (
	lookupTime   = 5 * time.Second         // for all that is asked for one name
	tryTime      = 1500 * time.Millisecond // for one server to answer
	tries        = 2                       // of each
	maxServers   = 3
	settingsLife = 5 * time.Second
	settingsSize = 64 << 10
	maxAnswer    = 64   // addresses that are read of one answer
	answerSize   = 1232 // bytes of a datagram that no network cuts (DNS flag day 2020)
)

var errNoAnswer = errors.New("no name server answers")

// lookupOn asks the host's name servers, or the one at an address.
func lookupOn(server string) func(ctx context.Context, name string) ([]netip.Addr, error) {
	return (&upstream{fixed: server, settings: hostSettings}).lookup
}

// lookup gives the addresses of a name, of both families, and an error beside those of one family where nobody answered for the other. A
// name that there is not is a [*net.DNSError] that says so.
func (u *upstream) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookupTime, errNoAnswer)
	defer cancel()
	full, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".") // nothing is searched behind it
	if err != nil {
		return nil, &net.DNSError{Err: "no such name", Name: name, IsNotFound: true}
	}
	servers := u.ask()
	var found [2][]netip.Addr
	var failed [2]error
	var wg conc.WaitGroup
	for i, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA} {
		wg.Go(func() { found[i], failed[i] = askAll(ctx, servers, full, kind) })
	}
	wg.Wait()
	all := slices.Concat(found[0], found[1])
	if err := cmp.Or(failed[0], failed[1]); err != nil {
		return all, &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// ask is who is asked now.
func (u *upstream) ask() []string {
	if u.fixed != "" {
		return []string{u.fixed}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); u.read.IsZero() || now.Sub(u.read) > settingsLife {
		u.read = now
		u.servers = hostServers(u.settings)
	}
	return u.servers
}

// hostServers are those that the first of the files names beside the stub. A host that names no other is asked by the stub after all.
func hostServers(files []string) []string {
	last := []string{"127.0.0.1"} // as the host itself does without any
	for _, path := range files {
		named := nameServers(path)
		if slices.ContainsFunc(named, func(s string) bool { return !slices.Contains(stubs, s) }) {
			last = named
			break
		}
		if len(named) > 0 {
			last = named
		}
	}
	servers := make([]string, 0, len(last))
	for _, s := range last {
		servers = append(servers, net.JoinHostPort(s, "53"))
	}
	return servers
}

// nameServers are those of a file as resolv.conf(5).
func nameServers(path string) (servers []string) {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, settingsSize))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, addr.String())
		}
	}
	return servers
}

// askAll asks one server after the other, again if need be. No address and no error: there is none.
func askAll(ctx context.Context, servers []string, name dnsmessage.Name, kind dnsmessage.Type) (addrs []netip.Addr, err error) {
	err = errNoAnswer
	for range tries {
		for _, server := range servers {
			if ctx.Err() != nil {
				return nil, err
			}
			within, cancel := context.WithTimeoutCause(ctx, tryTime, errNoAnswer)
			addrs, err = askOne(within, server, name, kind)
			cancel()
			if err == nil {
				return addrs, nil
			}
		}
	}
	return nil, err
}

// askOne asks by a datagram, and by a connection where the answer is too long for one.
func askOne(ctx context.Context, server string, name dnsmessage.Name, kind dnsmessage.Type) ([]netip.Addr, error) {
	q := dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET}
	var random [2]byte
	_, _ = rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint16(random[:])
	query, err := pack(id, q)
	if err != nil {
		return nil, err
	}
	for _, network := range []string{"udp", "tcp"} {
		addrs, cut, err := exchange(ctx, network, server, id, q, query)
		if err != nil || !cut || network == "tcp" {
			return addrs, err
		}
	}
	panic("egress: not reached")
}

// pack makes the question, with room for an answer of more than 512 bytes (RFC 6891).
func pack(id uint16, q dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAdditionals())
	var room dnsmessage.ResourceHeader
	err = errors.Join(err, room.SetEDNS0(answerSize, dnsmessage.RCodeSuccess, false), b.OPTResource(room, dnsmessage.OPTResource{}))
	out, last := b.Finish()
	return out, errors.Join(err, last)
}

// exchange asks and reads the answer; cut says that it did not fit.
func exchange(ctx context.Context, network, server string, id uint16, q dnsmessage.Question, query []byte) (addrs []netip.Addr, cut bool, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, false, err
	}
	b := make([]byte, answerSize)
	for {
		n := 0
		if network == "tcp" {
			var length [2]byte
			if _, err = io.ReadFull(conn, length[:]); err == nil {
				b = make([]byte, binary.BigEndian.Uint16(length[:]))
				n, err = io.ReadFull(conn, b)
			}
		} else {
			n, err = conn.Read(b)
		}
		if err != nil {
			return nil, false, err
		}
		addrs, cut, mine, err := read(b[:n], id, q)
		if mine {
			return addrs, cut, err
		}
		// Of an earlier question, or forged: the answer may still come.
	}
}

// read reads an answer: its addresses, whichever name of a chain of aliases they stand under. mine is false where it is none to the
// question. What is beyond maxAnswer is left: it is kept while the other family's answer is awaited, and none of it would be given.
func read(b []byte, id uint16, q dnsmessage.Question) (addrs []netip.Addr, cut, mine bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.ID != id || !h.Response {
		return nil, false, false, nil
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.Type || asked.Class != q.Class || !strings.EqualFold(asked.Name.String(), q.Name.String()) {
		return nil, false, false, nil
	}
	switch {
	case h.Truncated:
		return nil, true, true, nil
	case h.RCode == dnsmessage.RCodeNameError:
		return nil, false, true, nil
	case h.RCode != dnsmessage.RCodeSuccess:
		return nil, false, true, errors.New("a name server answers " + strconv.Itoa(int(h.RCode)))
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, false, true, err
	}
	for {
		head, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) || err == nil && len(addrs) == maxAnswer {
			return addrs, false, true, nil
		}
		if err != nil {
			return nil, false, true, err
		}
		switch {
		case head.Type == dnsmessage.TypeA && q.Type == head.Type:
			var r dnsmessage.AResource
			if r, err = p.AResource(); err == nil {
				addrs = append(addrs, netip.AddrFrom4(r.A))
			}
		case head.Type == dnsmessage.TypeAAAA && q.Type == head.Type:
			var r dnsmessage.AAAAResource
			if r, err = p.AAAAResource(); err == nil {
				addrs = append(addrs, netip.AddrFrom16(r.AAAA))
			}
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return nil, false, true, err
		}
	}
}

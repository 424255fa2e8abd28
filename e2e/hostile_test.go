package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// TestHostile is S56 on what is reached over NATS: whatever is sent wherever, by whomever, is refused by name or by the server,
// and the fabric serves on. The full number runs where HEARTH_LONG is set. What functions, packages, callers and pages do is in
// TestTrouble.
func TestHostile(t *testing.T) {
	t.Parallel()
	t.Run("S56", func(t *testing.T) {
		requests := 1_000
		if os.Getenv("HEARTH_LONG") != "" {
			requests = 10_000
		}
		f := fabric.Start(t, fabric.Options{Managers: 2, Capacity: 12})
		f.DeployFn("fn", "--timeout", "5s", "--retry-delay", "1s")
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		h := &hostile{t: t, f: f, random: rand.New(rand.NewPCG(seed, 56))}
		h.frontend = h.frontendID()
		h.spy()

		h.rights()
		h.events(requests / 3)
		h.replies()
		h.operations(requests / 3)
		h.nodes(requests / 3)
		h.unanswered()
		h.serves()
	})
}

// hostile is somebody with a credential of each kind and nothing good in mind.
type hostile struct {
	t        *testing.T
	f        *fabric.Fabric
	random   *rand.Rand
	frontend string               // id of the fabric's
	watcher  *nats.Conn           // a manager's, which may look at every stream
	js       jetstream.JetStream  // of watcher
	heard    []*nats.Subscription // of what nobody may be made to say
}

// refusals are the subjects that the server has refused to a connection.
type refusals struct {
	mu   sync.Mutex
	text []string
}

func (r *refusals) add(_ *nats.Conn, _ *nats.Subscription, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, nats.ErrPermissionViolation) {
		r.text = append(r.text, err.Error())
	}
}

func (r *refusals) of(kind, subject string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range r.text {
		if strings.Contains(strings.ToLower(text), kind+` to "`+strings.ToLower(subject)+`"`) {
			return true
		}
	}
	return false
}

// as is a connection with a credential of this role; none of them is anonymous.
func (h *hostile) as(inbox string, role ...string) (*nats.Conn, *refusals) {
	h.t.Helper()
	r := &refusals{}
	opts := []nats.Option{nats.ErrorHandler(r.add), nats.CustomInboxPrefix(inbox)}
	if role != nil {
		file := strings.TrimSpace(h.f.MustCLI(append(append([]string{"credential"}, role...), "--data", h.f.Data)...))
		key, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			h.t.Fatal(err)
		}
		opts = append(opts, key)
	}
	var nc *nats.Conn
	eventually(h.t, fmt.Sprint("the server knows ", role), func() (ok bool) {
		var err error
		nc, err = nats.Connect(h.f.NATS, opts...)
		return err == nil
	})
	h.t.Cleanup(nc.Close)
	return nc, r
}

// frontendID hears of the frontend by its status.
func (h *hostile) frontendID() string {
	nc, _ := h.as("_HM.m1.ear", "manager", "m1")
	sub, err := nc.SubscribeSync("hearth.status.frontend.>")
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := sub.NextMsgWithContext(withDeadline(h.t))
	var s schema.FrontendStatus
	if err == nil {
		err = schema.Unmarshal(m.Data, &s)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s.ID
}

// victims are reply subjects at which nothing may ever come in: all have this word in them.
func (h *hostile) victims() []string {
	return []string{
		"hearth.m.m1.victim", "hearth.status.victim", "_HM.m1.victim", "_HF." + h.frontend + ".victim", "hearth.trace.victim",
		"$KV.HEARTH_functions.default.victim", "$KV.HEARTH_ring.victim", "$KV.HEARTH_secrets.victim.1", "$O.HEARTH_code.M.victim",
		"hearth.retry.due.default.victim", "hearth.retry.held.default.victim.1", "hearth.dead.default.victim",
		"hearth.log.default.victim.1._", "hearth.event.default.victim", "hearth.arc.u.0.default.victim.1._",
		"$JS.API.STREAM.PURGE.HEARTH_LOGS", "$JS.API.STREAM.MSG.DELETE.HEARTH_DEADLETTERS", "$JS.API.STREAM.DELETE.HEARTH_LOGS",
	}
}

// spy listens where no answer may go.
func (h *hostile) spy() {
	h.watcher, _ = h.as("_HM.m1.spy", "manager", "m1")
	front, _ := h.as("_HF."+h.frontend+".spy", "frontend", h.frontend)
	for subject, nc := range map[string]*nats.Conn{
		"hearth.m.m1.victim": h.watcher, "hearth.status.victim": h.watcher, "_HM.m1.victim": h.watcher, "hearth.trace.victim": h.watcher,
		"_HF." + h.frontend + ".victim": front,
	} {
		sub, err := nc.SubscribeSync(subject)
		if err == nil {
			err = nc.FlushWithContext(withDeadline(h.t))
		}
		if err != nil {
			h.t.Fatal(err)
		}
		h.heard = append(h.heard, sub)
	}
	var err error
	if h.js, err = jetstream.New(h.watcher); err != nil {
		h.t.Fatal(err)
	}
}

// unanswered fails the test for whatever came to a victim, or lies under its name.
func (h *hostile) unanswered() {
	for _, sub := range h.heard {
		if m, err := sub.NextMsg(10 * time.Millisecond); err == nil {
			h.t.Errorf("somebody was made to say %.80q on %s", m.Data, m.Subject)
		}
	}
	for _, name := range []string{
		"KV_HEARTH_functions", "KV_HEARTH_ring", "KV_HEARTH_secrets", "OBJ_HEARTH_code", "HEARTH_RETRIES", "HEARTH_DEADLETTERS", "HEARTH_LOGS",
		"HEARTH_EVENTS_default", "HEARTH_CALLS_U", "HEARTH_CALLS_U1", "HEARTH_CALLS_U2", "HEARTH_CALLS_U3", "HEARTH_CALLS_U4", "HEARTH_CALLS_U5",
		"HEARTH_CALLS_U6", "HEARTH_CALLS_U7",
	} {
		s, err := h.js.Stream(withDeadline(h.t), name)
		if err != nil {
			h.t.Errorf("look at %s: %v", name, err)
			continue
		}
		info, err := s.Info(withDeadline(h.t), jetstream.WithSubjectFilter(">"))
		if err != nil {
			h.t.Errorf("look at %s: %v", name, err)
			continue
		}
		for subject := range info.State.Subjects {
			if strings.Contains(subject, "victim") {
				h.t.Errorf("something lies under %s", subject)
			}
		}
	}
}

// internal are subjects that belong to the fabric's nodes and the server alone.
func (h *hostile) internal() []string {
	all := []string{
		"hearth.m.m1.claim", "hearth.m.m1.ctl", "hearth.m.m1.key", "hearth.status.manager.m1", "hearth.status.frontend." + h.frontend,
		"hearth.status.ask", "hearth.trace.x", "_HF." + h.frontend + ".e", "_HF." + h.frontend + ".a.0123456789abcdef", "_HM.m1.x",
		"_HE." + h.frontend + ".x", "_HW.m1.x", "_R_.x", "hearth.retry.due.default.fn", "hearth.retry.held.default.fn.1", "hearth.dead.default.fn",
		"hearth.log.default.fn.1._", "hearth.arc.u.0.default.fn.1._", "hearth.open.r.0.default.fn.1.1", "hearth.w.m1.run",
		"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.mine", "$SYS.REQ.SERVER.PING",
	}
	for _, stream := range []string{
		"HEARTH_CALLS_U", "HEARTH_CALLS_U7", "HEARTH_CALLS_R0", "HEARTH_EVENTS_default", "HEARTH_RETRIES", "HEARTH_DEADLETTERS", "HEARTH_LOGS", "KV_HEARTH_functions",
		"KV_HEARTH_secrets", "KV_HEARTH_keys", "KV_HEARTH_members", "KV_HEARTH_ring", "KV_HEARTH_arcs",
	} {
		for _, verb := range []string{"STREAM.INFO", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "CONSUMER.LIST"} {
			all = append(all, "$JS.API."+verb+"."+stream)
		}
		all = append(all, "$JS.API.DIRECT.GET."+stream, "$JS.API.CONSUMER.CREATE."+stream+".mine", "$JS.API.CONSUMER.MSG.NEXT."+stream+".u-0",
			"$JS.ACK."+stream+".u-0.1.1.1.1.0")
	}
	for _, key := range []string{
		"functions.default.fn", "secrets.x.1", "keys.seal", "members.controller", "members.manager.m1", "ring.ring", "ring.fabric", "arcs.u.0", "limits.x",
		"reservations.x",
	} {
		all = append(all, "$KV.HEARTH_"+key)
	}
	return all
}

// rights tries what belongs to the fabric as each of those who have no node's credential.
func (h *hostile) rights() {
	deaf := []string{
		">", "hearth.>", "hearth.invoke.>", "hearth.event.>", "hearth.api.>", "hearth.status.>", "hearth.m.>", "hearth.arc.>", "hearth.log.>",
		"hearth.retry.>", "hearth.dead.>", "_HF.>", "_HM.>", "_HE.>", "_HW.>", "_R_.>", "$JS.>", "$KV.>", "$O.>", "$SYS.>", "_HC.>", "_HC.other.>",
	}
	for name, who := range map[string]struct {
		inbox string
		role  []string
	}{
		"anonymous": {"_INBOX.x", nil}, "client": {"_HC.shop", []string{"client", "shop"}}, "admin": {"_INBOX.y", []string{"admin"}},
	} {
		nc, refused := h.as(who.inbox, who.role...)
		subjects := h.internal()
		if name == "admin" { // who looks at the server's limits (hearth doctor)
			subjects = slices.DeleteFunc(subjects, func(s string) bool { return s == "$JS.API.INFO" })
		} else {
			subjects = append(subjects, "hearth.api.default.ListFunctions", "hearth.api._.DrainManager", "hearth.invoke.other.fn", "hearth.event.other.fn",
				"hearth.event.>", "hearth.bench.x", "$SRV.PING", "$O.HEARTH_code.M.x", "_INBOX.x", "_HC.other.x")
		}
		for _, subject := range subjects {
			if err := nc.Publish(subject, h.bytes()); err != nil {
				h.t.Errorf("%s: %v", subject, err)
			}
		}
		listen := deaf
		if name == "client" {
			listen = append(listen, "_INBOX.>")
		}
		for _, subject := range listen {
			if _, err := nc.SubscribeSync(subject); err != nil {
				h.t.Errorf("%s: %v", subject, err)
			}
		}
		if err := nc.FlushWithContext(withDeadline(h.t)); err != nil {
			h.t.Fatal(err)
		}
		for kind, all := range map[string][]string{"publish": subjects, "subscription": listen} {
			for _, subject := range all {
				eventually(h.t, fmt.Sprintf("%s to %s by %s is refused", kind, subject, name), func() bool { return refused.of(kind, subject) })
			}
		}
	}
}

// replies asks for answers where none may go: of the stream of events, and of the operations.
func (h *hostile) replies() {
	dead, err := h.js.Stream(withDeadline(h.t), "HEARTH_DEADLETTERS")
	if err != nil {
		h.t.Fatal(err)
	}
	guest, _ := h.as("_INBOX.replies")
	shop, _ := h.as("_HC.shop", "client", "shop")
	admin, _ := h.as("_INBOX.admin", "admin")
	replies := append(h.victims(), "_INBOX.>", "_INBOX.*.victim", "_INBOX..victim", "victim", "_INBOX."+strings.Repeat("victim", 50))
	for _, reply := range replies {
		for subject, nc := range map[string]*nats.Conn{
			"hearth.event.default.fn": guest, "hearth.event.default.nobody": shop, "hearth.invoke.default.fn": guest,
			"hearth.api.default.ListEvents": admin, "hearth.api.default.NoSuchThing": admin, "hearth.api._.DrainManager": admin,
			"hearth.api.default.GetLogs": admin,
		} {
			if err := nc.PublishRequest(subject, reply, []byte(`{"FunctionName":"fn"}`)); err != nil {
				h.t.Errorf("%s: %v", reply, err)
			}
		}
	}
	for _, nc := range []*nats.Conn{guest, shop, admin} {
		if err := nc.FlushWithContext(withDeadline(h.t)); err != nil {
			h.t.Fatal(err)
		}
	}
	before := dead.CachedInfo().State.Msgs
	eventually(h.t, "every event for nobody is dead, and no other dead letter is gone", func() bool {
		info, err := dead.Info(withDeadline(h.t))
		return err == nil && info.State.Msgs == before+uint64(len(replies))
	})
	drained(h.t, &ledger{nc: h.watcher})
}

// serves makes sure that calls, events and operations go as before, nothing is left, and nobody panicked.
func (h *hostile) serves() {
	r := newRecord(h.t)
	l := &ledger{nc: h.watcher}
	drained(h.t, l)
	quiet(h.t, h.f)
	c := h.f.Anonymous()
	for range 20 {
		if a := invoke(h.t, c, "fn", `"still here"`); string(a.Payload) != `"still here"` {
			h.t.Errorf("the function answered %s", a.Payload)
		}
	}
	if _, err := c.Send(withDeadline(h.t), client.Event{Function: "fn", Payload: []byte(r.payload("after", ""))}); err != nil {
		h.t.Error(err)
	}
	eventually(h.t, "an event runs", func() bool { return len(r.runs(h.t)["after"]) == 1 })
	for _, args := range [][]string{{"ls"}, {"events", "fn"}, {"deadletters", "ls"}, {"logs", "fn"}, {"ring"}} {
		h.f.MustCLI(args...)
	}
	drained(h.t, l)
	quiet(h.t, h.f)
	select {
	case <-h.f.Ended():
		h.t.Error("the fabric has ended")
	default:
	}
	log := h.f.Log()
	if at := strings.Index(log, "panic"); at >= 0 {
		h.t.Errorf("somebody panicked: %s", log[max(0, at-200):min(len(log), at+3000)])
	}
}

package deploy

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/subjects"
)

// door is a server with the users of a fabric, as `up` starts it.
type door struct {
	server *embedded
	names  subjects.Names
	logins map[string]login
}

func openDoor(t *testing.T, anonymous bool) *door {
	t.Helper()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{names: names, logins: map[string]login{}}
	for name, r := range map[string]*rights{
		"client": clientRights(names), "admin": adminRights(names), "frontend": frontendRights(names, "f1"), "manager": managerRights(names, "m1"),
		"worker": workerRights(names, "w1"),
	} {
		if d.logins[name], err = newLogin(name, "1", r); err != nil {
			t.Fatal(err)
		}
	}
	u := &users{roles: []login{d.logins["frontend"], d.logins["manager"], d.logins["worker"]}, admin: d.logins["admin"].public, names: names}
	if anonymous {
		u.client = d.logins["client"].public
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if d.server, err = startServer(ctx, "127.0.0.1:0", t.TempDir(), u, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.server.stop)
	return d
}

func (d *door) enter(t *testing.T, as string) *nats.Conn {
	t.Helper()
	options := []nats.Option{nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})}
	if as != "client" {
		l := d.logins[as]
		options = append(options, l.option())
	}
	nc, err := nats.Connect(d.server.url, options...)
	if err != nil {
		t.Fatalf("enter as %s: %v", as, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// A fabric that is measured lets its admin keep the plain twins; any other does not.
func TestRightsToMeasure(t *testing.T) {
	t.Parallel()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	for _, measured := range []bool{false, true} {
		l, err := newLogin("admin", "1", adminRights(names))
		if err != nil {
			t.Fatal(err)
		}
		server, err := startServer(t.Context(), "127.0.0.1:0", t.TempDir(), &users{admin: l.public, names: names, measured: measured}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.stop)
		nc, err := nats.Connect(server.url, l.option(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		for _, subject := range []string{
			"$JS.API.STREAM.CREATE.HEARTH_BENCH_QUEUE", "$JS.API.STREAM.DELETE.HEARTH_BENCH_PUBLISH",
			"$JS.API.CONSUMER.MSG.NEXT.HEARTH_BENCH_QUEUE.worker", "$JS.API.STREAM.INFO.HEARTH_EVENTS_default",
		} {
			if got := refused(t, nc, subject, func() error { return nc.Publish(subject, nil) }); got == measured {
				t.Errorf("measured %v: %s refused: %v", measured, subject, got)
			}
		}
		for _, subject := range []string{"$JS.API.STREAM.DELETE.HEARTH_EVENTS_default", "$JS.API.STREAM.MSG.GET.HEARTH_EVENTS_default", "$JS.API.STREAM.CREATE.X"} {
			if !refused(t, nc, subject, func() error { return nc.Publish(subject, nil) }) {
				t.Errorf("measured %v: %s is allowed", measured, subject)
			}
		}
	}
}

// refused reports whether the server refuses what act did with a subject: it says so before it answers the next ping.
func refused(t *testing.T, nc *nats.Conn, subject string, act func() error) bool {
	t.Helper()
	if err := act(); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if err := nc.FlushTimeout(20 * time.Second); err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	err := nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}

func TestRights(t *testing.T) {
	t.Parallel()
	d := openDoor(t, true)
	for who, table := range map[string]struct{ publish, not, listen, notListen []string }{
		"client": {
			publish: []string{"hearth.invoke.default.f", "hearth.invoke.default.f.tenant", "hearth.event.default.f"},
			not: []string{
				"hearth.invoke.other.f", "hearth.event.other.f", "hearth.invoke.default", "other.invoke.default.f",
				"hearth.api.default.CreateFunction", "hearth.api._.PutFabric", "hearth.arc.u.0.default.f.1._", "hearth.open.r.0.a.b.c.1",
				"hearth.status.manager.m1", "hearth.status.frontend.f1", "hearth.status.ask", "hearth.m.m1.ctl", "hearth.m.m1.claim", "hearth.m.m1.key", "hearth.w.w1.run",
				"hearth.retry.x", "hearth.dead.default.f", "hearth.log.default.f.1._", "hearth.trace.x", "hearth.bench.x", "hearth.seen.x",
				"_INBOX.x.y", "_HF.f1.a.0123456789abcdef", "_HM.m1.x", "_HW.w1.x", "_R_.x", "x",
				"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.DELETE.HEARTH_CALLS_U",
				"$JS.API.STREAM.INFO.HEARTH_CALLS_U", "$JS.API.STREAM.MSG.GET.HEARTH_CALLS_U", "$JS.API.STREAM.MSG.DELETE.HEARTH_CALLS_U",
				"$JS.API.DIRECT.GET.KV_HEARTH_secrets", "$JS.API.CONSUMER.CREATE.HEARTH_CALLS_U", "$JS.API.CONSUMER.MSG.NEXT.HEARTH_CALLS_U.u-0",
				"$JS.ACK.HEARTH_CALLS_U.u-0.1.1.1.1.0", "$JS.FC.KV_HEARTH_ring.x.y", "$KV.HEARTH_functions.default.f", "$KV.HEARTH_ring.ring",
				"$KV.HEARTH_members.controller", "$O.HEARTH_code.C.x", "$O.HEARTH_code.M.x", "$SRV.PING", "$SRV.INFO.hearth",
				"$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.ACCOUNT.$G.CONNECT",
			},
			listen: []string{"_INBOX.abc.*", "_INBOX.>"},
			notListen: []string{
				">", "*", "hearth.>", "hearth.invoke.>", "hearth.invoke.default.f", "hearth.api.>", "hearth.status.>", "hearth.arc.>", "hearth.bench.>",
				"_HF.>", "_HF.f1.>", "_HM.>", "_HW.>", "_R_.>", "$JS.>", "$JS.EVENT.ADVISORY.>", "$JS.ACK.>", "$KV.>", "$KV.HEARTH_secrets.>", "$O.>",
				"$SRV.>", "$SRV.PING", "$SYS.>",
			},
		},
		"admin": {
			publish: []string{
				"hearth.invoke.other.f", "hearth.api.default.ListFunctions", "hearth.api._.GetRing", "hearth.bench.x", "$SRV.PING",
				"$O.HEARTH_code.C.x", "$JS.API.STREAM.INFO.OBJ_HEARTH_code", "$SYS.REQ.USER.INFO", "$JS.API.INFO",
			},
			not: []string{
				"hearth.arc.u.0.default.f.1._", "hearth.m.m1.ctl", "hearth.m.m1.key", "hearth.status.manager.m1", "_HF.f1.x", "$KV.HEARTH_functions.default.f",
				"$JS.API.STREAM.DELETE.OBJ_HEARTH_code", "$JS.API.STREAM.INFO.KV_HEARTH_secrets", "$JS.API.STREAM.MSG.GET.OBJ_HEARTH_code",
				"$O.other_code.C.x", "$SYS.REQ.SERVER.PING",
			},
			listen:    []string{"_INBOX.>", "hearth.bench.x"},
			notListen: []string{"hearth.invoke.>", "hearth.api.>", "hearth.status.>", "_HF.>", "$KV.>", "$SYS.>", ">"},
		},
		"frontend": {
			publish: []string{
				"hearth.arc.u.0.default.f.1._", "hearth.status.frontend.f1", "$SYS.REQ.USER.INFO", "hearth.m.m1.ctl", "_INBOX.x", "_HM.m1.x",
				"$KV.HEARTH_ring.fabric", "$JS.API.STREAM.INFO.HEARTH_CALLS_R63", "hearth.status.ask", "hearth.event.default.f",
				"hearth.retry.held.default.f.x", "hearth.dead.default.f", "$JS.API.STREAM.INFO.HEARTH_EVENTS_default",
				"$JS.API.STREAM.INFO.HEARTH_RETRIES", "$JS.API.CONSUMER.CREATE.HEARTH_EVENTS_default.e-default~f",
				"$JS.API.CONSUMER.CREATE.HEARTH_RETRIES.e-default~f.hearth.retry.due.default.f",
				"$JS.API.CONSUMER.INFO.HEARTH_RETRIES.e-default~f", "$JS.API.CONSUMER.DELETE.HEARTH_EVENTS_default.e-default~f",
				"$JS.API.CONSUMER.MSG.NEXT.HEARTH_EVENTS_default.e-default~f", "$JS.API.CONSUMER.MSG.NEXT.HEARTH_RETRIES.e-default~f",
				"$JS.ACK.HEARTH_EVENTS_default.e-default~f.1.1.1.1.0", "$JS.ACK.HEARTH_RETRIES.e-default~f.1.1.1.1.0",
				"$JS.API.STREAM.MSG.GET.HEARTH_EVENTS_default", "$JS.API.STREAM.MSG.DELETE.HEARTH_EVENTS_default",
				"$JS.API.STREAM.MSG.GET.HEARTH_RETRIES",
				// What calls on reserved arcs need, of the first shard and of the last.
				"hearth.arc.r.0.default.f.1.7", "hearth.arc.r.63.default.f.1.7", "$JS.API.STREAM.INFO.HEARTH_CALLS_R0",
				"$JS.API.STREAM.MSG.DELETE.HEARTH_CALLS_R0", "$JS.API.STREAM.MSG.DELETE.HEARTH_CALLS_R63",
				"$JS.API.STREAM.MSG.GET.HEARTH_CALLS_R0", "$JS.API.STREAM.MSG.GET.HEARTH_CALLS_R63",
				"$JS.API.CONSUMER.CREATE.KV_HEARTH_reservations.x.$KV.HEARTH_reservations.>",
			},
			not: []string{
				"hearth.open.r.63.default.f.1.7", "$JS.API.STREAM.CREATE.HEARTH_CALLS_R0", "$JS.API.STREAM.DELETE.HEARTH_CALLS_R0",
				"$JS.API.STREAM.MSG.DELETE.HEARTH_CALLS_R64", "$JS.API.CONSUMER.MSG.NEXT.HEARTH_CALLS_R0.r-7", "$JS.ACK.HEARTH_CALLS_R0.r-7.1.1.1.1.0",
				"hearth.status.frontend.f2", "hearth.status.manager.m1", "hearth.m.m1.claim", "hearth.m.m1.key", "hearth.open.r.0.a.b.c.1", "hearth.log.default.f.1._",
				"$KV.HEARTH_ring.ring", "$KV.HEARTH_members.controller", "$KV.HEARTH_members.manager.m1", "$KV.HEARTH_keys.seal", "$KV.HEARTH_limits.x",
				"$JS.API.CONSUMER.MSG.NEXT.HEARTH_CALLS_U.u-0", "$JS.ACK.HEARTH_CALLS_U.u-0.1.1.1.1.0", "$JS.API.STREAM.PURGE.HEARTH_CALLS_R0",
				"$JS.API.STREAM.CREATE.HEARTH_CALLS_U", "$JS.API.STREAM.DELETE.HEARTH_CALLS_U", "$JS.API.CONSUMER.CREATE.HEARTH_CALLS_U.x",
				"$JS.API.CONSUMER.DELETE.HEARTH_CALLS_U.u-0", "$JS.API.STREAM.DELETE.KV_HEARTH_functions", "$JS.API.STREAM.INFO.OTHER",
				"$JS.API.STREAM.NAMES", "$JS.API.INFO", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.PURGE.HEARTH_EVENTS_default",
				"$JS.API.STREAM.DELETE.HEARTH_EVENTS_default", "$JS.API.STREAM.UPDATE.HEARTH_EVENTS_default", "_HE.f1.x",
			},
			listen:    []string{"hearth.invoke.>", "hearth.api.*.GetRing", "hearth.api.>", "hearth.status.>", "$SRV.PING", "_HF.f1.>", "_HE.f1.>"},
			notListen: []string{"_INBOX.>", "_HF.>", "_HE.>", "_HE.f2.>", "_HF.f2.>", "_HM.m1.>", "hearth.m.m1.>", "hearth.arc.>", "$KV.>", "$SYS.>", ">"},
		},
		"manager": {
			publish: []string{
				"hearth.status.manager.m1", "$SYS.REQ.USER.INFO", "hearth.m.m2.claim", "hearth.m.m2.key", "_INBOX.x", "_HF.f1.x", "hearth.log.default.f.1._", "hearth.open.r.0.a.b.c.1",
				"$KV.HEARTH_members.manager.m1", "$KV.HEARTH_members.controller", "$KV.HEARTH_ring.ring", "$KV.HEARTH_keys.seal",
				"$KV.HEARTH_members.worker.w1", "$JS.ACK.HEARTH_CALLS_R63.r-1.1.1.1.1.0", "$JS.API.CONSUMER.MSG.NEXT.HEARTH_CALLS_R63.r-1",
			},
			not: []string{
				"hearth.status.manager.m2", "hearth.status.frontend.f1", "hearth.invoke.default.f", "hearth.api.default.CreateFunction",
				"$KV.HEARTH_members.manager.m2", "$KV.HEARTH_functions.default.f", "$KV.HEARTH_secrets.x.1", "$O.HEARTH_code.C.x",
				"$JS.API.STREAM.DELETE.HEARTH_LOGS", "$JS.API.STREAM.DELETE.KV_HEARTH_functions", "$JS.API.STREAM.PURGE.KV_HEARTH_ring",
				"$JS.ACK.HEARTH_EVENTS_default.x.1.1.1.1.0", "$JS.API.STREAM.INFO.OTHER", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.NAMES",
				"$SRV.PING", "$SYS.REQ.SERVER.PING",
			},
			listen:    []string{"hearth.m.m1.ctl", "hearth.status.>", "_HM.m1.>"},
			notListen: []string{"_INBOX.>", "_HM.>", "_HM.m2.>", "_HF.>", "hearth.m.>", "hearth.invoke.>", "hearth.api.>", "hearth.arc.>", "$SYS.>", ">"},
		},
		"worker": {
			publish: []string{
				"_INBOX.x", "_HC.x.y", "_R_.x", "_HF.f1.a.0123456789abcdef", "_HM.m1.w.w1.hello", "_HM.m2.w.w1.l.s", "_HM.m1.w.w1.lease",
				"_HM.m1.w.w1.log.default.f.1._", "_HM.m1.w.w1.code.ab",
			},
			not: []string{
				// It cannot claim, acknowledge, move, refuse or make a call.
				"$JS.API.CONSUMER.MSG.NEXT.HEARTH_CALLS_U.u-0", "$JS.ACK.HEARTH_CALLS_U.u-0.1.1.1.1.0", "$JS.API.STREAM.MSG.DELETE.HEARTH_CALLS_U",
				"$JS.API.STREAM.MSG.GET.HEARTH_CALLS_U", "$JS.API.DIRECT.GET.HEARTH_CALLS_U", "$JS.API.CONSUMER.CREATE.HEARTH_CALLS_U.x",
				"hearth.arc.u.0.default.f.1._", "hearth.open.r.0.a.b.c.1", "hearth.invoke.default.f", "hearth.event.default.f",
				// It cannot deploy, order, or speak as another.
				"hearth.api.default.CreateFunction", "hearth.api._.DrainManager", "hearth.m.m1.ctl", "hearth.m.m1.claim", "hearth.m.m1.key",
				"hearth.w.w1.link", "hearth.w.w2.open", "hearth.w.w2.link", "hearth.status.manager.m1", "hearth.status.frontend.f1", "hearth.status.ask",
				"hearth.trace.x", "hearth.retry.x", "hearth.dead.default.f",
				// Of other nodes it reaches where answers and questions go, no other's and no other inbox.
				"_HM.m1.w.w2.hello", "_HM.m1.w.w2.l.s", "_HM.m1.w.w2.lease", "_HM.m1.n.x", "_HM.m1.w.n.x", "_HM.m1.gone.s", "_HM.m1.x", "_HF.f1.p.x", "_HF.f1.n.x",
				"_HF.f1.b", "_HE.f1.x", "_HW.w1.x", "_HW.w2.x",
				// It writes no bucket, not even its lease, and no log line by itself, and reads nothing.
				"hearth.log.default.f.1._", "$KV.HEARTH_members.worker.w1", "$KV.HEARTH_members.worker.w2", "$KV.HEARTH_members.manager.m1", "$KV.HEARTH_members.controller", "$KV.HEARTH_functions.default.f",
				"$KV.HEARTH_secrets.x.1", "$KV.HEARTH_keys.seal", "$KV.HEARTH_ring.ring", "$KV.HEARTH_limits.x", "$KV.HEARTH_arcs.u.0", "$KV.HEARTH_reservations.x",
				"$JS.API.DIRECT.GET.KV_HEARTH_members", "$JS.API.DIRECT.GET.KV_HEARTH_members.$KV.HEARTH_members.worker.w1",
				"$JS.API.DIRECT.GET.KV_HEARTH_secrets", "$JS.API.DIRECT.GET.KV_HEARTH_secrets.$KV.HEARTH_secrets.x.1", "$JS.API.STREAM.MSG.GET.KV_HEARTH_secrets",
				"$JS.API.CONSUMER.CREATE.KV_HEARTH_secrets.x", "$JS.API.STREAM.INFO.KV_HEARTH_members", "$JS.API.DIRECT.GET.KV_HEARTH_functions",
				"$JS.API.DIRECT.GET.OBJ_HEARTH_code", "$JS.API.DIRECT.GET.OBJ_HEARTH_code.$O.HEARTH_code.M.YQ==",
				"$JS.API.CONSUMER.CREATE.OBJ_HEARTH_code.x", "$O.HEARTH_code.C.x", "$O.HEARTH_code.M.x", "$JS.API.STREAM.PURGE.OBJ_HEARTH_code",
				"$JS.API.STREAM.INFO.HEARTH_LOGS", "$JS.API.CONSUMER.CREATE.HEARTH_LOGS.x", "$JS.API.DIRECT.GET.HEARTH_LOGS",
				"$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.CREATE.X", "$SRV.PING", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO",
			},
			listen: []string{"hearth.w.w1.link", "hearth.w.w1.open", "_HW.w1.>"},
			notListen: []string{
				"hearth.w.>", "hearth.w.w2.>", "_HW.>", "_HW.w2.>", "_HM.>", "_HM.m1.>", "_HF.>", "_INBOX.>", "hearth.>", "hearth.m.>", "hearth.invoke.>",
				"hearth.status.>", "hearth.arc.>", "hearth.log.>", "$KV.>", "$O.>", "$JS.>", "$SYS.>", ">",
			},
		},
	} {
		t.Run(who, func(t *testing.T) {
			nc := d.enter(t, who)
			publish := func(subject string) bool {
				return refused(t, nc, subject, func() error { return nc.PublishRequest(subject, "_INBOX.none", nil) })
			}
			listen := func(subject string) bool {
				return refused(t, nc, subject, func() error {
					_, err := nc.SubscribeSync(subject)
					return err
				})
			}
			for _, s := range table.publish {
				if publish(s) {
					t.Errorf("may not publish to %s", s)
				}
			}
			for _, s := range table.not {
				if !publish(s) {
					t.Errorf("may publish to %s", s)
				}
			}
			for _, s := range table.listen {
				if listen(s) {
					t.Errorf("may not subscribe to %s", s)
				}
			}
			for _, s := range table.notListen {
				if !listen(s) {
					t.Errorf("may subscribe to %s", s)
				}
			}
		})
	}
}

func TestNobodyEntersWithoutACredentialUnlessAllowed(t *testing.T) {
	t.Parallel()
	d := openDoor(t, false)
	for name, option := range map[string]nats.Option{
		"nothing":            func(*nats.Options) error { return nil },
		"the user's name":    nats.UserInfo("client", ""),
		"a key nobody knows": strangersKey(t),
	} {
		if nc, err := nats.Connect(d.server.url, option); !errors.Is(err, nats.ErrAuthorization) {
			if err == nil {
				nc.Close()
			}
			t.Errorf("with %s: %v", name, err)
		}
	}
	// Where it is allowed, a wrong credential is refused all the same.
	d = openDoor(t, true)
	if nc, err := nats.Connect(d.server.url, strangersKey(t)); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			nc.Close()
		}
		t.Errorf("a stranger's key: %v", err)
	}
}

func strangersKey(t *testing.T) nats.Option {
	t.Helper()
	l, err := newLogin("stranger", "1", &rights{})
	if err != nil {
		t.Fatal(err)
	}
	return l.option()
}

// Streams and buckets of the topology are all named in the rights of those that make them: a new kind without rights would
// be found by nobody until the server refuses it.
func TestManagersMayMakeTheWholeTopology(t *testing.T) {
	t.Parallel()
	names, err := subjects.NewNames("other")
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, s := range managerRights(names, "m1").publish {
		has[s] = true
	}
	streams := []string{
		names.CallsU(0), names.CallsU(subjects.UnreservedStreams - 1), names.CallsR(0), names.CallsR(subjects.MaxShards - 1), names.Events(subjects.DefaultAccount),
		names.Stream(topology.Retries), names.Stream(topology.DeadLetters), names.Stream(topology.Logs), topology.CodeStream(names),
	}
	for _, kind := range topology.Buckets() {
		streams = append(streams, topology.BucketStream(names, kind))
	}
	for _, s := range streams {
		for _, verb := range []string{"CREATE", "UPDATE", "INFO"} {
			if !has["$JS.API.STREAM."+verb+"."+s] {
				t.Errorf("may not %s %s", verb, s)
			}
		}
	}
}

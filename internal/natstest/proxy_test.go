package natstest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hearth-run/hearth/internal/natstest"
)

// through subscribes a client behind a proxy to everything, and gives what it hears and who speaks beside the proxy.
func through(t *testing.T) (p *natstest.Proxy, nc *nats.Conn, heard chan string, say func(subject string)) {
	t.Helper()
	f := natstest.Start(t, natstest.Bare())
	p = natstest.StartProxy(t, f.URL)
	nc, err := nats.Connect(p.URL, nats.MaxReconnects(-1), nats.ReconnectWait(time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	heard = make(chan string, 16)
	if _, err := nc.Subscribe("t.>", func(m *nats.Msg) { heard <- m.Subject + " " + string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	beside := f.Connect(t)
	return p, nc, heard, func(subject string) {
		m := nats.NewMsg(subject)
		m.Header.Set("A", "b")
		m.Data = []byte("line\r\nMSG t.lie 1 4\r\nmore")
		if err := beside.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		if err := beside.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

func expect(t *testing.T, heard <-chan string, subjects ...string) {
	t.Helper()
	for _, want := range subjects {
		select {
		case got := <-heard:
			if !strings.HasPrefix(got, want+" line\r\n") || !strings.HasSuffix(got, "more") {
				t.Errorf("heard %q, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was not heard", want)
		}
	}
	if len(heard) > 0 {
		t.Errorf("heard %q, which nobody waited for", <-heard)
	}
}

func TestProxyHoldsSubjects(t *testing.T) {
	t.Parallel()
	p, _, heard, say := through(t)
	say("t.a")
	expect(t, heard, "t.a")
	p.HoldSubjects(func(subject string) bool { return subject == "t.held" })
	say("t.held")
	say("t.b")
	expect(t, heard, "t.b")
	p.Release()
	expect(t, heard, "t.held")
	say("t.held")
	say("t.c")
	expect(t, heard, "t.held", "t.c")
}

func TestProxyHoldsADirection(t *testing.T) {
	t.Parallel()
	for _, d := range []natstest.Direction{natstest.ToServer, natstest.ToClient, natstest.BothWays} {
		p, nc, _, _ := through(t)
		p.Hold(d)
		flushed := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		go func() { flushed <- nc.FlushWithContext(ctx) }()
		// A flush is answered in far less time where nothing is held; a machine that is slow makes this pass, not fail.
		select {
		case err := <-flushed:
			t.Errorf("direction %d: a flush was answered: %v", d, err)
		case <-time.After(50 * time.Millisecond):
		}
		p.Release()
		if err := <-flushed; err != nil {
			t.Errorf("direction %d: released, %v", d, err)
		}
		cancel()
	}
}

func TestProxyCuts(t *testing.T) {
	t.Parallel()
	p, nc, heard, say := through(t)
	p.Refuse()
	natstest.Eventually(t, 20*time.Second, func() bool { return nc.Status() == nats.RECONNECTING }, "the connection is lost")
	p.Release()
	natstest.Eventually(t, 20*time.Second, func() bool { return nc.Status() == nats.CONNECTED }, "the connection is back")
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	say("t.a")
	expect(t, heard, "t.a")
	before := nc.Stats().Reconnects // nats.go counts those that the proxy refused too
	p.Cut()
	natstest.Eventually(t, 20*time.Second, func() bool { return nc.Stats().Reconnects > before }, "the connection is back")
}

func TestProxySwallowsAMessage(t *testing.T) {
	t.Parallel()
	p, nc, heard, _ := through(t)
	publish := func(subject string) {
		t.Helper()
		m := nats.NewMsg(subject)
		if subject != "t.bare" {
			m.Header.Set("A", "b")
		}
		m.Data = []byte("line\r\nPUB t.lie 4\r\nmore")
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	swallowed := p.Swallow(func(subject string) bool { return subject == "t.prey" })
	publish("t.bare")
	publish("t.prey")
	publish("t.after")
	select {
	case <-swallowed:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was swallowed")
	}
	expect(t, heard, "t.bare", "t.after")
	publish("t.prey")
	expect(t, heard, "t.prey")
}

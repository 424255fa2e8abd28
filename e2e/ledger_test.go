package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
)

// ledger makes calls over a plain NATS connection, keeps every answer that each of them got, however many, and holds that
// against what the function noted of its runs.
type ledger struct {
	*record
	nc     *nats.Conn
	inbox  string
	prefix string // of tags, unlike that of other ledgers on the same record
	next   atomic.Int64

	mu     sync.Mutex // guards what follows
	calls  map[string]*entry
	events map[string]string // words of those whose acceptance was heard, by tag
}

// entry is one sync call.
type entry struct {
	tag     string
	words   string
	sent    time.Time
	gaveUp  time.Time // the caller's patience ended without an answer
	answers []end
	texts   []string      // of refusals among them
	first   chan struct{} // closed with the first answer
}

// end is how a call ended, by one answer.
type end string

// The ends. A refusal has its code behind the word, a function's error its type.
const (
	fine    end = "fine"
	lost    end = "error Hearth.ExecutionLost"
	nothing end = "nothing" // no answer within the caller's patience
	refused     = "refused "
	failed      = "error "
)

func newLedger(t testing.TB, d *fabric.Door, r *record) *ledger {
	t.Helper()
	l := &ledger{
		record: r, nc: anonymousAt(t, d.NATS), inbox: nats.NewInbox() + ".", calls: map[string]*entry{}, events: map[string]string{},
	}
	l.prefix = l.inbox[len(l.inbox)-7 : len(l.inbox)-1]
	if _, err := l.nc.Subscribe(l.inbox+"*", l.heard); err != nil {
		t.Fatal(err)
	}
	if err := l.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("calls ended: %v", l.tally())
		}
	})
	return l
}

// anonymousAt is a connection without a credential that comes back quickly.
func anonymousAt(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(deadline/4))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (l *ledger) heard(m *nats.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.calls[strings.TrimPrefix(m.Subject, l.inbox)]
	if e == nil {
		return
	}
	e.answers = append(e.answers, endOf(m))
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		e.texts = append(e.texts, text)
	}
	if len(e.answers) == 1 {
		close(e.first)
	}
}

func endOf(m *nats.Msg) end {
	if m.Header.Get("Status") == "503" {
		return refused + "no responders"
	}
	if text := m.Header.Get("Nats-Service-Error"); text != "" {
		code, _, _ := strings.Cut(text, ":")
		return end(refused + m.Header.Get("Nats-Service-Error-Code") + " " + code)
	}
	if m.Header.Get("Hearth-Function-Error") != "" {
		var object struct {
			Type string `json:"errorType"`
		}
		_ = json.Unmarshal(m.Data, &object)
		return end(failed + object.Type)
	}
	return fine
}

// tag is a new one, of a kind of call.
func (l *ledger) tag(kind string) string { return fmt.Sprint(l.prefix, "-", kind, l.next.Add(1)) }

// begin publishes a call that waits for its answer so long at most; nil if it could not be sent.
func (l *ledger) begin(function, words string, patience time.Duration) *entry {
	e := &entry{tag: l.tag(""), words: words, sent: time.Now(), first: make(chan struct{})}
	l.mu.Lock()
	l.calls[e.tag] = e
	l.mu.Unlock()
	m := message("hearth.invoke.default.", function)
	m.Reply, m.Data = l.inbox+e.tag, []byte(l.payload(e.tag, words))
	m.Header.Set("Hearth-Timeout", patience.String())
	if err := l.nc.PublishMsg(m); err != nil {
		l.mu.Lock()
		delete(l.calls, e.tag)
		l.mu.Unlock()
		return nil
	}
	return e
}

// message is a call or an event of a function, or of a version of it: "fn:1".
func message(prefix, function string) *nats.Msg {
	name, qualifier, _ := strings.Cut(function, ":")
	m := nats.NewMsg(prefix + name)
	if qualifier != "" {
		m.Header.Set(schema.HeaderQualifier, qualifier)
	}
	return m
}

// await waits for the first answer of a call until ctx ends.
func (l *ledger) await(ctx context.Context, e *entry) end {
	select {
	case <-e.first:
		l.mu.Lock()
		defer l.mu.Unlock()
		return e.answers[0]
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		e.gaveUp = time.Now()
		return nothing
	}
}

// call makes a call and gives how it ended.
func (l *ledger) call(function, words string, patience time.Duration) end {
	ctx, cancel := context.WithTimeout(context.Background(), patience+time.Second)
	defer cancel()
	e := l.begin(function, words, patience)
	if e == nil {
		return nothing
	}
	return l.await(ctx, e)
}

// publish hands in one event and reports whether it was accepted.
func (l *ledger) publish(ctx context.Context, function, words string) bool {
	return l.publishAs(ctx, function, words, "")
}

// publishAs is publish under a request id, unless that is "".
func (l *ledger) publishAs(ctx context.Context, function, words, id string) bool {
	tag := l.tag("e")
	m := message("hearth.event.default.", function)
	if id != "" {
		m.Header.Set(schema.HeaderRequestID, id)
	}
	m.Data = []byte(l.payload(tag, words))
	a, err := l.nc.RequestMsgWithContext(ctx, m)
	if err != nil {
		return false
	}
	var ack struct {
		Stream string
		Error  any
	}
	if json.Unmarshal(a.Data, &ack) != nil || ack.Stream == "" || ack.Error != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events[tag] = words
	return true
}

// load is work that goes on until it is stopped.
type load struct {
	cancel context.CancelFunc
	crew   conc.WaitGroup
	done   atomic.Int64
}

// loaded keeps n workers doing something one after the other.
func loaded(n int, work func(ctx context.Context)) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	for range n {
		l.crew.Go(func() {
			for ctx.Err() == nil {
				work(ctx)
				l.done.Add(1)
			}
		})
	}
	return l
}

// more waits until so many more pieces of work are done.
func (l *load) more(t testing.TB, n int64) {
	t.Helper()
	until := l.done.Load() + n
	eventually(t, fmt.Sprint(n, " more calls of the load"), func() bool { return l.done.Load() >= until })
}

func (l *load) stop() {
	l.cancel()
	l.crew.Wait()
}

// tally is how often each end came.
func (l *ledger) tally() map[end]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := map[end]int{}
	for _, e := range l.calls {
		if len(e.answers) == 0 {
			n[nothing]++
			continue
		}
		n[e.answers[0]]++
	}
	return n
}

// settle holds the answers against the runs: one answer a call (but see [double]); what was refused never ran; what was
// answered ran once; whatever else ran at most once; every accepted event ran, at least once.
func (l *ledger) settle(t testing.TB) {
	t.Helper()
	runs := l.runs(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.calls {
		n := len(runs[e.tag])
		answer := nothing
		if len(e.answers) > 0 {
			answer = e.answers[0]
		}
		switch {
		case len(e.answers) > 1 && !double(e.answers):
			t.Errorf("call %s (%s) ran %d times and has %d answers: %q", e.tag, e.words, n, len(e.answers), e.answers)
		case n > 1:
			t.Errorf("call %s (%s) ran %d times, answered %q", e.tag, e.words, n, e.answers)
		case answer == fine && n != 1, strings.HasPrefix(string(answer), refused) && n != 0:
			t.Errorf("call %s (%s) ran %d times and was answered %q", e.tag, e.words, n, answer)
		}
	}
	for tag := range l.events {
		if len(runs[tag]) == 0 {
			t.Errorf("event %s was accepted and never ran", tag)
		}
	}
}

// double reports whether two answers are those that nobody can prevent while answers go straight from the worker to the
// caller: a manager that is killed between an answer and the notice of the call's end leaves its frontend to say
// ExecutionLost, and one that stood still answers after that was said. A caller listens for the first alone.
func double(answers []end) bool {
	if len(answers) != 2 || strings.HasPrefix(string(answers[0]+answers[1]), refused) {
		return false
	}
	return (answers[0] == lost) != (answers[1] == lost)
}

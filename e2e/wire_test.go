package e2e_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/subjects"
)

// answers counts what streams answer to the calls that frontends publish, as it passes on the wire.
type answers struct {
	stored atomic.Int64 // on reserved arcs
	wrong  atomic.Int64 // refused: the marker that the frontend expects does not stand
	absent atomic.Int64 // there is no such stream
	other  atomic.Int64 // refused for another reason
}

// wiretap listens to the answers that frontends get, each by its id.
func wiretap(t testing.TB, l *ledger, frontends ...string) *answers {
	t.Helper()
	a := &answers{}
	for _, id := range frontends {
		sub, err := l.nc.Subscribe(subjects.FrontendInbox(id, "p.>"), a.heard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() }) // the connection may be closed
	}
	return a
}

func (a *answers) heard(m *nats.Msg) {
	var answer struct {
		Stream string
		Error  *struct {
			Code jetstream.ErrorCode `json:"err_code"`
		}
	}
	switch {
	case m.Header.Get("Status") != "":
		a.absent.Add(1)
	case json.Unmarshal(m.Data, &answer) != nil:
	case answer.Error == nil && strings.HasPrefix(answer.Stream, "HEARTH_CALLS_R"):
		a.stored.Add(1)
	case answer.Error == nil:
	case answer.Error.Code == jetstream.JSErrCodeStreamWrongLastSequence:
		a.wrong.Add(1)
	default:
		a.other.Add(1)
	}
}

// stranded waits until no call lies on any arc, whether somebody knows of the arc or not.
func stranded(t testing.TB, l *ledger) {
	t.Helper()
	js := l.jetStream(t)
	var left map[string]uint64
	defer func() {
		if t.Failed() {
			t.Logf("calls are left on %v", left)
		}
	}()
	eventually(t, "no call is stranded", func() bool {
		left = map[string]uint64{}
		names := js.StreamNames(withDeadline(t))
		for name := range names.Name() {
			if !strings.HasPrefix(name, "HEARTH_CALLS_") {
				continue
			}
			s, err := js.Stream(withDeadline(t), name)
			if err != nil {
				return false // it is being deleted
			}
			info, err := s.Info(withDeadline(t), jetstream.WithSubjectFilter("hearth.arc.>"))
			if err != nil {
				return false
			}
			for subject, n := range info.State.Subjects {
				left[subject] = n
			}
		}
		return names.Err() == nil && len(left) == 0
	})
}

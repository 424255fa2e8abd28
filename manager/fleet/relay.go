package fleet

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// What a worker needs of streams: schema/remote.go draws it. The subject says which worker asks, the reply has to be an inbox of
// that one, where nobody else listens, and what is passed on is made here but for the lines. The server answers the worker, so
// nothing here waits, and nothing of a package or of an answer passes through the manager.

// maxLog is the most bytes of log lines that are passed on at once; a shipper sends about half of that.
const maxLog = 1 << 20

// The headers by which a message is stored, as the server reads them.
const (
	expectSequence = "Nats-Expected-Last-Subject-Sequence"
	expectStream   = "Nats-Expected-Stream"
	kvOperation    = "KV-Operation"
)

// relay has the handler make what is passed on for a question of this kind.
func (f *Fleet) relay(kind subjects.WorkerAsk, pass func(worker, rest string, body []byte) (*nats.Msg, error)) nats.MsgHandler {
	return func(m *nats.Msg) {
		worker, rest, ok := subjects.ParseWorkerAsk(m.Subject, f.cfg.Manager, kind)
		if !ok || !subjects.OfWorker(m.Reply, worker) {
			f.refuse(worker, "a question that is none: "+string(kind))
			return
		}
		out, err := pass(worker, rest, m.Data)
		switch {
		case errors.Is(err, errLater): // the worker says so in its log
			out = &nats.Msg{Subject: m.Reply, Header: nats.Header{schema.HeaderStatus: {schema.StatusLater}}}
		case err != nil:
			f.refuse(worker, err.Error())
			out = &nats.Msg{Subject: m.Reply, Header: nats.Header{schema.HeaderStatus: {schema.StatusRefused}}}
		default:
			out.Reply = m.Reply
		}
		if !f.nc.IsConnected() {
			return // it would lie in the connection's buffer, and is asked for again
		}
		if err := f.nc.PublishMsg(out); err != nil {
			f.log.Warn("pass on what a worker asks for", "worker", worker, "what", string(kind), "error", err)
		}
	}
}

// passLease is the put of a worker's lease, for this manager and under the worker's own id alone.
func (f *Fleet) passLease(worker, _ string, body []byte) (*nats.Msg, error) {
	var ask schema.WorkerLease
	if err := schema.Unmarshal(body, &ask); err != nil {
		return nil, errors.New("a lease that is none")
	}
	out := &nats.Msg{
		Subject: "$KV." + f.cfg.Names.Bucket(topology.Members) + "." + WorkerKey(worker), Data: ask.Record,
		Header: nats.Header{expectSequence: {strconv.FormatUint(ask.Last, 10)}},
	}
	if len(ask.Record) == 0 {
		out.Header[kvOperation] = []string{"DEL"}
		return out, nil
	}
	var rec schema.WorkerRecord
	if err := schema.Unmarshal(ask.Record, &rec); err != nil || rec.ID != worker || rec.Manager != f.cfg.Manager || len(ask.Record) > maxLease {
		return nil, errors.New("the lease of another, or at another manager")
	}
	return out, nil
}

// maxLease is far above what a record takes.
const maxLease = 4 << 10

// relearn is how long a manager that has started does not know what its workers run: the one before it gave them that, and the lines of
// the calls that were cut off with it come before this one has made any environment. They wait at the worker for so long.
const relearn = 30 * time.Second

// passLog is a batch of log lines: of functions and sub-tenants alone that this manager gave the worker, so that one that was taken over
// writes into nobody else's log. Soon after a start those of any sub-tenant pass whose version the worker has again, and others later.
func (f *Fleet) passLog(worker, rest string, body []byte) (*nats.Msg, error) {
	subject, ok := f.cfg.Names.LogOfAsk(rest)
	if !ok || len(body) > maxLog {
		return nil, errors.New("log lines that are none")
	}
	account, function, version, tenant, _ := f.cfg.Names.ParseLog(subject)
	f.mu.Lock()
	known, relearns := f.logged[worker], time.Now().Before(f.relearned)
	its := known.uses(logName{account, function, version, tenant}) || relearns && known.uses(logName{account, function, version, ""})
	f.mu.Unlock()
	switch {
	case its:
	case relearns:
		return nil, errLater
	default:
		return nil, errors.New("log lines of what it does not run")
	}
	return &nats.Msg{Subject: subject, Data: body, Header: nats.Header{expectStream: {f.cfg.Names.Stream(topology.Logs)}}}, nil
}

// functionName names a function of an account.
type functionName struct{ account, function string }

// logName names a log: of a version, and where its environment is bound of a sub-tenant.
type logName struct{ account, function, version, tenant string }

// hosts notes that a worker has environments of a function. The mutex is held.
func (f *Fleet) hosts(worker string, of functionName) { remember(f.hosted, worker, of) }

// logs notes that a worker has lines of a log. The mutex is held.
func (f *Fleet) logs(worker string, of logName) { remember(f.logged, worker, of) }

// Bounds of the usage that is passed on for one worker. A ledger sends no more than a page or two in ten seconds; what is above the
// burst waits at the worker, where it adds up.
const (
	usageRate  = rate.Limit(schema.MaxUsageBytes / 10.) // bytes a second
	usageBurst = 8 * schema.MaxUsageBytes
	// usageLeast is as what a record counts at least: the server keeps about 100 bytes of each in memory, for a day.
	usageLeast = 4 << 10
)

var errLater = errors.New("not now")

// allows reports whether so many bytes of usage may be passed on for a worker now. The mutex is held.
func (f *Fleet) allows(worker string, now time.Time, bytes int) bool {
	l := f.usage[worker]
	if l == nil {
		l = rate.NewLimiter(usageRate, usageBurst)
		f.usage[worker] = l
	}
	return l.AllowN(now, max(bytes, usageLeast))
}

// passUsage is a record of what a worker counted: of functions alone that this manager gave it, so that one that was taken over bills
// nobody for functions that it never ran. Of those that it runs it may name any sub-tenant and any number: the manager does not know
// them. It is stored once however often it is sent.
func (f *Fleet) passUsage(worker, _ string, body []byte) (*nats.Msg, error) {
	var rec schema.UsageRecord
	if err := schema.Unmarshal(body, &rec); err != nil || len(body) > maxLog || len(rec.Rows) > schema.MaxUsageRows {
		return nil, errors.New("usage that is none")
	}
	if rec.Worker != worker || rec.Account == "" || len(rec.Incarnation) > maxIncarnation {
		return nil, errors.New("the usage of another")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range rec.Rows {
		row := &rec.Rows[i]
		if !f.hosted[worker].uses(functionName{rec.Account, row.Function}) || !row.Good() {
			return nil, errors.New("usage of what it does not run")
		}
	}
	if !f.allows(worker, time.Now(), len(body)) {
		return nil, errLater
	}
	return &nats.Msg{Subject: f.cfg.Names.Usage(rec.Account, f.cfg.Manager), Data: body, Header: nats.Header{
		expectStream: {f.cfg.Names.Stream(topology.Usage)}, schema.HeaderMsgID: {rec.MsgID()},
	}}, nil
}

const maxIncarnation = 64

// passCode is the reading of a message of the code store: of a package that an environment of this worker runs. A piece is found by
// a name that stands in the package's entry and is random.
func (f *Fleet) passCode(worker, rest string, _ []byte) (*nats.Msg, error) {
	p, ok := subjects.ParsePiece(rest)
	if !ok {
		return nil, errors.New("a question for a package that is none")
	}
	if !f.runs(worker, p.SHA256) {
		return nil, errors.New("a question for a package that it does not run")
	}
	store, get := f.cfg.Names.Bucket(topology.Code), "$JS.API.DIRECT.GET."+topology.CodeStream(f.cfg.Names)
	if p.Chunks == "" {
		return &nats.Msg{Subject: get + ".$O." + store + ".M." + base64.URLEncoding.EncodeToString([]byte(p.SHA256))}, nil
	}
	return &nats.Msg{Subject: get, Data: fmt.Appendf(nil, `{"next_by_subj":%q,"seq":%d}`, "$O."+store+".C."+p.Chunks, p.From)}, nil
}

// runs reports whether a worker has an environment of this code.
func (f *Fleet) runs(worker, code string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[worker]; s != nil {
		for _, e := range s.environments {
			if e.code == code {
				return true
			}
		}
	}
	return false
}

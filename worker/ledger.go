package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/hearth-run/hearth/internal/lifecycle"
	"github.com/hearth-run/hearth/schema"
)

const (
	usageEvery = 10 * time.Second
	// usageLast bounds the writing of the last records in Stop, and usagePatience that of one.
	usageLast     = 5 * time.Second
	usagePatience = 5 * time.Second
)

var (
	// ErrUsageRefused is wrapped by the error of a [LedgerConfig.Store] whose record is refused for what stands in it, and was not stored
	// by this attempt: to send it again does not help.
	ErrUsageRefused = errors.New("the record of usage is refused")
	// ErrUsageTwice is wrapped by the error of a Store that heard that a record with this number stood in the stream before.
	ErrUsageTwice = errors.New("a record of usage with this number is stored already")
)

// LedgerConfig says how a [Ledger] works. Fields without a default are needed.
type LedgerConfig struct {
	Worker string        // its id
	Every  time.Duration // how long what was counted stays in memory alone; 0 means 10 s
	// Store stores a record and returns when it stands in the stream, once however often it is asked to (its MsgID). Its errors are
	// tried again later, but for [ErrUsageRefused] and [ErrUsageTwice].
	Store  func(ctx context.Context, r *schema.UsageRecord) error
	Logger *slog.Logger // nil means nobody
}

// Ledger writes what functions and sub-tenants used into stream USAGE, every ten seconds in which something was. A record that could
// not be stored is stored again, with its number, until it is; meanwhile the numbers that follow wait, and grow no further than there
// are functions and sub-tenants. One that is refused is sent in halves, until what is refused of it stands alone and is dropped: a
// function that a manager does not know (it was started anew) takes no other's numbers with it. What a worker that is killed had not
// written is lost: its last ten seconds. One that stops writes everything.
//
//	calls ──atomics──► usage rows ──every 10 s, what is new──► record ──PubAck──► told, and rows that nobody holds are forgotten
type Ledger struct {
	cfg         LedgerConfig
	log         *slog.Logger
	usage       *usage
	incarnation string

	number  uint64       // of the last record that stands in the stream
	last    time.Time    // to which the records reach
	pending []*usagePage // the parts of one page in their order, at most one for each time that it can be halved
	// unsure says that all of pending but the last rest parts may stand in the stream, under the next number: an attempt to store them
	// was not answered before they were refused.
	unsure  bool
	rest    int
	dropped atomic.Int64

	guard lifecycle.Guard
	life  context.Context
	end   context.CancelFunc
	loop  conc.WaitGroup
}

var _ lifecycle.Component = (*Ledger)(nil)

// NewLedger makes a ledger, for [Config.Ledger]. It starts nothing.
func NewLedger(cfg LedgerConfig) (*Ledger, error) {
	if cfg.Worker == "" || cfg.Store == nil {
		return nil, errors.New("ledger: needs the worker's id and where records are stored")
	}
	cfg.Every = cmp.Or(cfg.Every, usageEvery)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	l := &Ledger{cfg: cfg, log: cfg.Logger.With("worker", cfg.Worker), usage: newUsage(), incarnation: hex.EncodeToString(b[:])}
	l.usage.written = true
	l.life, l.end = context.WithCancel(context.Background())
	return l, nil
}

// Start begins to write. A ledger starts once.
func (l *Ledger) Start(ctx context.Context) error {
	return l.guard.Start(ctx, func(context.Context) error {
		l.last = time.Now()
		l.loop.Go(l.run)
		return nil
	})
}

// Stop writes what there is and ends. It is called when the worker has stopped: what is counted later is not written.
func (l *Ledger) Stop(ctx context.Context) error {
	return l.guard.Stop(ctx, func(ctx context.Context) error {
		l.end()
		l.loop.Wait()
		ctx, cancel := context.WithTimeout(ctx, usageLast)
		defer cancel()
		if err := l.write(ctx); err != nil {
			return fmt.Errorf("write the last usage: %w", err)
		}
		return nil
	})
}

// Dropped is how many rows were refused and are in no record.
func (l *Ledger) Dropped() int64 { return l.dropped.Load() }

func (l *Ledger) run() {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-l.life.Done():
			return
		case <-tick.C:
		}
		if err := l.write(l.life); err != nil && l.life.Err() == nil {
			l.log.Warn("usage was not written and will be again", "error", err)
		}
	}
}

// write stores what is new.
func (l *Ledger) write(ctx context.Context) error {
	for {
		if len(l.pending) == 0 {
			now := time.Now()
			p := l.usage.page(schema.MaxUsageRows)
			if p == nil {
				l.last = now
				return nil
			}
			r := &p.record
			r.V, r.Worker, r.Incarnation = schema.Version, l.cfg.Worker, l.incarnation
			r.From, r.To = l.last.UTC(), now.UTC()
			l.pending, l.unsure = []*usagePage{p}, false
		}
		p := l.pending[0]
		p.record.Number = l.number + 1
		within, cancel := context.WithTimeout(ctx, usagePatience)
		err := l.cfg.Store(within, &p.record)
		cancel()
		switch {
		case errors.Is(err, ErrUsageRefused):
			if p.unanswered && !l.unsure {
				l.unsure, l.rest = true, len(l.pending)-1
			}
			l.halve(p)
			if l.unsure && len(l.pending) == l.rest { // none of them is left to ask with: the number may be taken
				l.number++
				l.unsure = false
			}
			continue
		case errors.Is(err, ErrUsageTwice) && l.unsure: // as the whole of which this is a part: what is left of it would be there twice
			parts := len(l.pending) - l.rest
			for _, part := range l.pending[1:parts] {
				l.usage.told(part)
			}
			l.pending = slices.Delete(l.pending, 1, parts)
		case err != nil && !errors.Is(err, ErrUsageTwice):
			p.unanswered = true
			l.usage.refused.CompareAndSwap(0, time.Now().UnixNano())
			return err
		}
		l.number++
		l.unsure = false
		l.usage.refused.Store(0)
		l.usage.told(p)
		l.pending = l.pending[1:]
	}
}

// halve has the halves of the first page, which was refused, sent in its place, or drops its one row.
func (l *Ledger) halve(p *usagePage) {
	half := len(p.rows) / 2
	if half == 0 {
		l.usage.told(p)
		l.dropped.Add(int64(len(p.rows)))
		for _, r := range p.rows {
			l.log.Warn("usage is in no record: its manager refuses it", "account", r.key.account, "function", r.key.function, "tenant", r.key.tenant)
		}
		l.pending = l.pending[1:]
		return
	}
	first, second := &usagePage{record: p.record, rows: p.rows[:half]}, &usagePage{record: p.record, rows: p.rows[half:]}
	first.record.Rows, second.record.Rows = p.record.Rows[:half], p.record.Rows[half:]
	l.pending = slices.Replace(l.pending, 0, 1, first, second)
}

// usagePage is a record, and the rows that are in it.
type usagePage struct {
	record     schema.UsageRecord
	rows       []*usageRow
	unanswered bool // an attempt to store it failed, and may have stored it
}

// page takes together what is new of an account, at most so many rows; nil where nothing is.
func (u *usage) page(most int) *usagePage {
	u.mu.Lock()
	defer u.mu.Unlock()
	var p *usagePage
	bytes := 0
	for key, r := range u.rows {
		news := r.counts()
		news.Add(r.told, -1)
		switch {
		case news == schema.UsageCounts{}:
			if r.holders == 0 {
				u.forget(r)
			}
			continue
		case p == nil:
			p = &usagePage{record: schema.UsageRecord{Account: key.account}}
		case p.record.Account != key.account:
			continue // in the next one
		}
		p.record.Rows = append(p.record.Rows, schema.UsageRow{Function: key.function, Tenant: key.tenant, UsageCounts: news})
		p.rows = append(p.rows, r)
		if bytes += len(key.function) + len(key.tenant) + 100; len(p.rows) == most || bytes > schema.MaxUsageBytes {
			break
		}
	}
	return p
}

// told notes that a page stands in the stream, or never will.
func (u *usage) told(p *usagePage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, r := range p.rows {
		r.told.Add(p.record.Rows[i].UsageCounts, 1)
		if r.holders == 0 && r.counts() == r.told {
			u.forget(r)
		}
	}
}

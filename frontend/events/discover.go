package events

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/hearth-run/hearth/subjects"
)

const (
	lookEvery = 100 * time.Millisecond
	lookWait  = 2 * time.Second
	// A list of subjects costs as much as there are: it is made so much more rarely than it takes, at most a second.
	lookCost = 20
	lookRare = time.Second
	openers  = 8 // consumers that are made at once
)

// stream is what was last seen of a stream. Where nothing was stored in it since, nothing has to be looked for.
type stream struct {
	name, filter string
	next         time.Time // no list of its subjects before

	mu      sync.Mutex
	created time.Time
	seen    uint64 // last sequence when its subjects were listed and each was seen to
	unseen  bool   // they have to be listed again, whatever the last sequence is
}

// streamInfo is a part of the answer of STREAM.INFO.
type streamInfo struct {
	Config struct {
		Name string `json:"name"`
	} `json:"config"`
	Created time.Time `json:"created"`
	Stamp   time.Time `json:"ts"`
	State   struct {
		LastSeq  uint64            `json:"last_seq"`
		Subjects map[string]uint64 `json:"subjects"`
	} `json:"state"`
	Total int       `json:"total"` // of subjects
	Error *apiError `json:"error"`
}

// lookLoop looks for functions that have events and no poller, until the life ends. A stream that stored nothing since the
// last look costs one question.
func (p *Pollers) lookLoop() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.life.Done():
			return
		case <-tick.C:
		case <-p.looks:
		}
		if !p.nc.IsConnected() {
			continue
		}
		for _, s := range p.streams {
			if err := p.lookAt(p.life, s); err != nil && p.life.Err() == nil {
				p.trouble.log(p.log, "look at a stream of events", "stream", s.name, "error", err)
			}
		}
	}
}

// lookAt sees to every function and every stray subject that a stream holds messages of, if any came since the last time.
func (p *Pollers) lookAt(ctx context.Context, s *stream) error {
	info, err := p.info(ctx, s.name, "", 0)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if !info.Created.Equal(s.created) {
		s.created, s.seen = info.Created, 0
	}
	began := time.Now()
	if info.State.LastSeq == s.seen && !s.unseen || began.Before(s.next) {
		s.mu.Unlock()
		return nil
	}
	s.unseen = false
	s.mu.Unlock()
	var last uint64
	held := make(map[string]uint64)
	for {
		if info, err = p.info(ctx, s.name, s.filter, len(held)); err != nil {
			return err
		}
		if len(held) == 0 {
			last = info.State.LastSeq // what is stored while the list goes on may not be in it
		}
		for subject, n := range info.State.Subjects {
			held[subject] = n
		}
		if len(info.State.Subjects) == 0 || len(held) >= info.Total {
			break
		}
	}
	s.next = time.Now().Add(min(lookCost*time.Since(began)-lookEvery, lookRare))
	all, err := p.seeTo(ctx, s, held)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.unseen = last, s.unseen || !all
	return err
}

// forgetSeen has every subject looked at again.
func (p *Pollers) forgetSeen() {
	for _, s := range p.streams {
		s.mu.Lock()
		s.unseen = true
		s.mu.Unlock()
	}
	p.look()
}

// created is when the EVENTS stream of an account was made, as the last look saw it; "" means RETRIES.
func (p *Pollers) created(account string) time.Time {
	name := p.retries
	if account != "" {
		name = p.names.Events(account)
	}
	s := p.streams[name]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.created
}

func (p *Pollers) info(ctx context.Context, name, filter string, offset int) (*streamInfo, error) {
	var body []byte
	if filter != "" {
		body = fmt.Appendf(nil, `{"subjects_filter":%q,"offset":%d}`, filter, offset)
	}
	asked := time.Now()
	info := new(streamInfo)
	if err := p.ask(ctx, "$JS.API.STREAM.INFO."+name, body, info); err != nil {
		return nil, err
	}
	if info.Error != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", name, info.Error.asError())
	}
	if !info.Stamp.IsZero() { // told between the question and now
		p.ahead.Store(int64(info.Stamp.Sub(asked.Add(time.Since(asked) / 2))))
	}
	return info, nil
}

// seeTo makes sure that the messages of these subjects are in hands: those of a function that is known in its poller's, all
// others on their way to the dead letters. It reports whether nothing has to be seen to again.
func (p *Pollers) seeTo(ctx context.Context, s *stream, held map[string]uint64) (all bool, err error) {
	functions := make(map[string]bool)
	var stray []string
	for subject := range held {
		if name, ok := p.function(s, subject); ok {
			functions[name] = true
		} else if s.name != p.retries {
			stray = append(stray, subject)
		}
	}
	work := pool.New().WithContext(ctx).WithMaxGoroutines(openers)
	for name := range functions {
		f := p.poller(subjects.DefaultAccount, name)
		if f == nil {
			continue
		}
		src := f.fresh
		if s.name == p.retries {
			src = f.due
		}
		work.Go(func(ctx context.Context) error { return f.open(ctx, src) })
	}
	err = work.Wait()
	for _, subject := range stray {
		p.drainStray(s, subject)
	}
	return err == nil && len(stray) == 0, err
}

// function is the function whose poller takes a subject; false for one that belongs to none.
func (p *Pollers) function(s *stream, subject string) (string, bool) {
	if s.name == p.retries {
		// Pollers alone write there, and what a function leaves behind when it is deleted goes through its poller too.
		account, function, ok := p.names.ParseRetryDue(subject)
		return function, ok && account == subjects.DefaultAccount
	}
	t, ok := p.names.ParseEvent(subject)
	if !ok || t.Account != subjects.DefaultAccount {
		return "", false
	}
	if p.has(t.Function) {
		return t.Function, true
	}
	_, _, known := p.runner.Function(t.Account, t.Function)
	return t.Function, known
}

func (p *Pollers) has(function string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pollers[function] != nil
}

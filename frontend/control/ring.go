package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sourcegraph/conc/iter"

	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// MemberSilent is the state of a manager that stands on the ring and whose status this frontend does not hear.
const MemberSilent schema.MemberState = "silent"

// Unknown stands for the number of waiting or claimed calls of an arc of which the stream said nothing in time.
const Unknown = -1

// tellTime bounds the questions to the streams what waits, which are asked at once.
const tellTime = 2 * time.Second

// getRing answers with the managers, and the arcs with their managers by rank and what waits on them: of all, or of one
// function.
func (s *Service) getRing(ctx context.Context, _ string, request []byte) (any, error) {
	in, err := decode[schema.RingInput](request)
	if err != nil {
		return nil, err
	}
	account := cmp.Or(in.Account, subjects.DefaultAccount)
	if account != subjects.DefaultAccount {
		return nil, schema.Errorf(schema.CodeNotFound, "no account %q: %q is the only one", clip(account), subjects.DefaultAccount)
	}
	record, fabric, managers := s.view.Ring(), s.view.Fabric(), s.view.Managers()
	numbers, err := s.arcsOf(ctx, account, in.FunctionName, fabric.Arcs, managers)
	if err != nil {
		return nil, err
	}
	var streams []string
	for _, nn := range numbers {
		streams = append(streams, s.cfg.Names.CallsOf(nn))
	}
	waiting := s.waiting(ctx, streams)
	ring := subjects.NewRing(fabric.Vnodes, record.Members)
	out := schema.RingOutput{Epoch: record.Epoch, Managers: ringManagers(record, managers), Arcs: []schema.RingArc{}}
	var places []int
	for _, nn := range numbers {
		places = ring.Unreserved(places[:0], nn, s.view.ArcLength(nn))
		arc := schema.RingArc{
			Subject: s.cfg.Names.UnreservedFilter(nn), Kind: "unreserved", Length: len(places), Ranks: make([]string, len(places)),
			Pending: Unknown, Claimed: Unknown,
		}
		for rank, i := range places {
			arc.Ranks[rank] = ring.Managers()[i]
		}
		if w, ok := waiting[s.cfg.Names.CallsOf(nn)][s.cfg.Names.UnreservedDurable(nn)]; ok {
			arc.Pending, arc.Claimed = w.pending, w.claimed
		}
		out.Arcs = append(out.Arcs, arc)
	}
	reserved, err := s.reservedArcs(ctx, account, in.FunctionName, ring, fabric)
	if err != nil {
		return nil, err
	}
	out.Arcs = append(out.Arcs, reserved...)
	return out, nil
}

// reservedArcs are the arcs of reservations that take calls, of all or of one function, with their managers by rank.
func (s *Service) reservedArcs(ctx context.Context, account, functionName string, ring *subjects.Ring, fabric schema.Fabric) ([]schema.RingArc, error) {
	if functionName != "" {
		var err error
		if functionName, _, err = target(functionName, ""); err != nil {
			return nil, err
		}
	}
	all, err := s.reservationsOf(ctx, account, functionName)
	if err != nil {
		return nil, err
	}
	var out []schema.RingArc
	var streams []string
	for _, r := range all {
		if r.Marker != 0 {
			streams = append(streams, s.cfg.Names.CallsR(r.Shard))
		}
	}
	waiting := s.waiting(ctx, streams)
	for _, r := range all {
		if r.Marker == 0 {
			continue
		}
		arc := schema.RingArc{
			Subject: s.cfg.Names.ReservedCall(r.Shard, r.Account, r.Function, r.Version, r.Epoch), Kind: "reserved", Ranks: []string{},
			Pending: Unknown, Claimed: Unknown,
		}
		for _, p := range ring.Places(nil, r.Account, r.Function, r.Version, r.Limit, fabric.T, r.Skip) {
			arc.Ranks = append(arc.Ranks, p.Manager)
		}
		arc.Length = len(arc.Ranks)
		if w, ok := waiting[s.cfg.Names.CallsR(r.Shard)][s.cfg.Names.ReservedDurable(r.Epoch)]; ok {
			arc.Pending, arc.Claimed = w.pending, w.claimed
		}
		out = append(out, arc)
	}
	return out, nil
}

// arcsOf are the numbers of the arcs to show, ascending: all that there are, or those on which a function's calls may
// stand. The calls of a function with sub-tenants spread over all arcs, so of it those are shown where managers have
// environments for it.
func (s *Service) arcsOf(ctx context.Context, account, functionName string, arcs int, managers []schema.ManagerStatus) ([]int, error) {
	var numbers []int
	if functionName == "" {
		for nn := range arcs {
			numbers = append(numbers, nn)
		}
		return numbers, nil
	}
	name, _, err := target(functionName, "")
	if err != nil {
		return nil, err
	}
	rec, err := s.read(ctx, account, name)
	if err != nil {
		return nil, err
	}
	if !rec.PerTenant {
		numbers = append(numbers, subjects.UnreservedArc(account, name, "", arcs))
	}
	for _, m := range managers {
		for _, a := range m.Arcs {
			if nn, ok := unreservedNumber(a.Arc); ok && a.Account == account && a.Function == name {
				numbers = append(numbers, nn)
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// unreservedNumber reads the short name of an unreserved arc, as [subjects.UnreservedName] writes it.
func unreservedNumber(arc string) (int, bool) {
	text, ok := strings.CutPrefix(arc, "u.")
	nn, err := strconv.Atoi(text)
	return nn, ok && err == nil && nn >= 0 && nn < subjects.MaxArcs && subjects.UnreservedName(nn) == arc
}

// ringManagers are the managers on the ring, those that leave it, and any other that tells its status, by id.
func ringManagers(record schema.RingRecord, statuses []schema.ManagerStatus) []schema.RingManager {
	byID := make(map[string]schema.RingManager)
	for _, id := range record.Members {
		byID[id] = schema.RingManager{ID: id, State: MemberSilent}
	}
	for _, id := range record.Leaving {
		byID[id] = schema.RingManager{ID: id, State: schema.MemberDraining}
	}
	for _, m := range statuses {
		state := m.State
		switch on, is := byID[m.ID]; {
		case is && on.State == schema.MemberDraining:
			state = on.State
		case !is && state == schema.MemberActive:
			continue // it has left; its last word outlives it for a moment
		}
		byID[m.ID] = schema.RingManager{
			ID: m.ID, State: state, Capacity: m.Capacity, Environments: schema.RingEnvironments{
				Idle: m.Idle, Busy: m.Busy, Starting: m.Starting, Reserved: m.Reserved, Surplus: m.Surplus,
			}, Stock: m.Stock,
		}
	}
	out := make([]schema.RingManager, 0, len(byID))
	for _, m := range byID {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b schema.RingManager) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

type waiting struct{ pending, claimed int }

// waiting asks these streams of calls at once what waits on their consumers, and gives it by stream and by the durable's name:
// nothing where one does not tell in time.
func (s *Service) waiting(ctx context.Context, streams []string) map[string]map[string]waiting {
	slices.Sort(streams)
	streams = slices.Compact(streams)
	asks := iter.Mapper[string, map[string]waiting]{MaxGoroutines: len(streams)}
	told := asks.Map(streams, func(name *string) map[string]waiting { return s.waitingOn(ctx, *name) })
	all := make(map[string]map[string]waiting, len(streams))
	for i, name := range streams {
		all[name] = told[i]
	}
	return all
}

// waitingOn asks one, which is one request while it has at most 256 consumers.
func (s *Service) waitingOn(ctx context.Context, name string) map[string]waiting {
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	out := make(map[string]waiting)
	stream, err := s.store.js.Stream(ctx, name)
	if err == nil {
		lister := stream.ListConsumers(ctx)
		for info := range lister.Info() {
			out[info.Name] = waiting{pending: int(info.NumPending), claimed: info.NumAckPending}
		}
		err = lister.Err()
	}
	if err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		s.log.Info("the stream does not tell what waits", "stream", name, "error", err)
	}
	return out
}

package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hearth-run/hearth/internal/watch"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// listReservations lists the reservations of the account, or of one function, with where each member lives; those that are being
// emptied too.
func (s *Service) listReservations(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.ListReservationsInput](request)
	if err != nil {
		return nil, err
	}
	name := ""
	if in.FunctionName != "" {
		if name, err = unqualified(in.FunctionName); err != nil {
			return nil, err
		}
		if _, err := s.read(ctx, account, name); err != nil {
			return nil, err
		}
	}
	all, err := s.reservationsOf(ctx, account, name)
	if err != nil {
		return nil, err
	}
	out := schema.ListReservationsOutput{Reservations: make([]schema.ReservationOutput, 0, len(all))}
	seen := s.look()
	for _, r := range all {
		t := seen.told(r)
		out.Reservations = append(out.Reservations, t.output())
	}
	return out, nil
}

// reservationsOf reads the records of the account, or of one function, by function and version. One that cannot be read is left
// out, and said so in the log: it does not hide the others.
func (s *Service) reservationsOf(ctx context.Context, account, name string) ([]*schema.ReservationRecord, error) {
	filter := subjects.Escape(account) + ".>"
	if name != "" {
		filter = subjects.Escape(account) + "." + subjects.Escape(name) + ".*"
	}
	ctx, cancel := context.WithCancel(ctx)
	w, err := s.store.reservations.Watch(ctx, filter, jetstream.IgnoreDeletes())
	if err != nil {
		cancel()
		return nil, fmt.Errorf("list the reservations: %w", err)
	}
	defer watch.End(s.nc, w, cancel)
	var all []*schema.ReservationRecord
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case entry, ok := <-w.Updates():
			switch {
			case !ok:
				return nil, errors.New("list the reservations: the watch ended")
			case entry == nil: // all that there are have come
				slices.SortFunc(all, func(a, b *schema.ReservationRecord) int {
					return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(versionNumber(a.Version), versionNumber(b.Version)))
				})
				return all, nil
			}
			r := new(schema.ReservationRecord)
			if err := schema.Unmarshal(entry.Value(), r); err != nil {
				s.log.Error("a reservation cannot be read", "key", entry.Key(), "error", err)
				continue
			}
			all = append(all, r)
		}
	}
}

// unreserved refuses to delete what still has a reservation: a version, or with "" any of a function's.
func (s *Service) unreserved(ctx context.Context, account, name, version string) error {
	all, err := s.reservationsOf(ctx, account, name)
	if err != nil {
		return err
	}
	var by []string
	for _, r := range all {
		if version == "" || r.Version == version {
			by = append(by, fmt.Sprintf("version %s (%s)", r.Version, r.State))
		}
	}
	if len(by) == 0 {
		return nil
	}
	return schema.Errorf(schema.CodeConflict, "%s has reservations: %s; delete them (`hearth reserve %s:VERSION --delete`) and wait until they are empty",
		name, strings.Join(by, ", "), name)
}

// reservationTold is a reservation with what the managers tell of its members.
type reservationTold struct {
	record               *schema.ReservationRecord
	size, busy, starting int // of all openings that are there: S counts what calls are served by
	status               schema.ReservationStatus
	reason               string
	places               []schema.ReservationMember
}

// sight is what the ring and the managers' statuses say at one moment, looked at once for however many reservations.
type sight struct {
	view     View
	ring     *subjects.Ring
	t        int
	managers []schema.ManagerStatus
	arcs     map[string][]arcTold // reserved ones, by short name
}

// arcTold is what one manager tells of an arc.
type arcTold struct {
	manager string
	arc     *schema.ArcStatus
}

func (s *Service) look() *sight {
	fabric := s.view.Fabric()
	v := &sight{
		view: s.view, ring: subjects.NewRing(fabric.Vnodes, s.view.Ring().Members), t: fabric.T, managers: s.view.Managers(), arcs: make(map[string][]arcTold),
	}
	for i := range v.managers {
		m := &v.managers[i]
		for k := range m.Arcs {
			if a := &m.Arcs[k]; subjects.IsReservedName(a.Arc) {
				v.arcs[a.Arc] = append(v.arcs[a.Arc], arcTold{m.ID, a})
			}
		}
	}
	return v
}

// told puts a record together with the managers' statuses.
func (v *sight) told(r *schema.ReservationRecord) reservationTold {
	t := reservationTold{record: r, reason: r.Failed}
	at := make(map[string]int)
	for _, p := range v.ring.Places(nil, r.Account, r.Function, r.Version, r.Limit, v.t, r.Skip) {
		at[p.Manager] = len(t.places)
		t.places = append(t.places, schema.ReservationMember{Manager: p.Manager, Rank: p.Rank, Share: p.Share})
	}
	for _, m := range v.of(r) {
		a := m.arc
		if a.Tenant != "" { // bound to a sub-tenant, and replaced
			continue
		}
		t.size, t.busy, t.starting = t.size+a.Ready, t.busy+a.Busy, t.starting+a.Starting
		t.reason = cmp.Or(t.reason, a.Failed)
		i, on := at[m.manager]
		if !on {
			if a.Ready+a.Starting == 0 {
				continue
			}
			i, at[m.manager] = len(t.places), len(t.places)
			t.places = append(t.places, schema.ReservationMember{Manager: m.manager, Rank: subjects.OffArc})
		}
		t.places[i].Members, t.places[i].Busy = a.Ready, a.Busy
	}
	switch {
	case r.State == schema.ReservationActive && t.size >= r.Limit && v.view.Reserves(r):
		// The record is read from KV, and calls go by what a watch has told: who waits until it is ready may call then.
		t.status, t.reason = schema.ReservationReady, ""
	case t.reason != "":
		t.status = schema.ReservationFailed
	default:
		t.status = schema.ReservationInProgress
	}
	return t
}

// of is what the managers tell of the arc of a reservation: nothing where it has none yet.
func (v *sight) of(r *schema.ReservationRecord) []arcTold {
	if r.Epoch == 0 {
		return nil
	}
	return v.arcs[r.Arc(r.Epoch, r.Shard).ArcName()]
}

// kept is for how many members of a reservation its managers have the place: those that are there, and those that they lack for
// their shares, which they tell as room no more.
func (v *sight) kept(r *schema.ReservationRecord) (n int) {
	for _, m := range v.of(r) {
		if m.arc.Tenant == "" { // what is bound to a sub-tenant is evicted for others
			n += max(m.arc.Share, m.arc.Ready+m.arc.Starting)
		}
	}
	return n
}

func (t *reservationTold) output() schema.ReservationOutput {
	out := schema.ReservationOutput{
		Function: t.record.Function, Version: t.record.Version, Limit: t.record.Limit, Size: t.size, Busy: t.busy,
		Surplus: max(0, t.size-t.record.Limit), State: t.record.State, Status: t.status, Reason: t.reason, Epoch: t.record.Epoch, Arc: t.places,
	}
	if out.Arc == nil {
		out.Arc = []schema.ReservationMember{}
	}
	return out
}

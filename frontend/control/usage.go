package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
)

// Bounds of one answer of GetUsage.
const (
	usageScan  = 16 << 20 // bytes of records
	usageItems = 5000     // rows of the answer, about
)

// usageQuery is a request of GetUsage as it is carried out.
type usageQuery struct {
	account, function, tenant string
	since, until              time.Time
	from                      place
}

// getUsage adds up what the ledger has of the account, as much as one answer reads.
func (s *Service) getUsage(ctx context.Context, account string, request []byte) (any, error) {
	in, err := decode[schema.UsageInput](request)
	if err != nil {
		return nil, err
	}
	q := usageQuery{account: account, tenant: in.TenantID}
	if in.FunctionName != "" { // one that is deleted has left its usage
		if q.function, err = unqualified(in.FunctionName); err != nil {
			return nil, err
		}
	}
	if in.TenantID != "" {
		if err := schema.ValidateTenant(in.TenantID); err != nil {
			return nil, err
		}
	}
	if in.Since != nil {
		q.since = *in.Since
	}
	if in.Until != nil {
		q.until = *in.Until
	}
	if in.Cursor != "" {
		var ok bool
		if q.from, ok = parsePlace(in.Cursor); !ok {
			return nil, schema.Invalid(schema.FieldError{Field: "Cursor", Got: clip(in.Cursor), Allowed: "the cursor of an answer"})
		}
	}
	return s.readUsage(ctx, q)
}

func (s *Service) readUsage(ctx context.Context, q usageQuery) (*schema.UsageOutput, error) {
	name := s.cfg.Names.Stream(topology.Usage)
	stream, err := s.store.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at the ledger of usage: %w", err)
	}
	info := stream.CachedInfo()
	sum := &usageSum{q: q, of: make(map[usageName]*schema.UsageItem), next: max(info.State.FirstSeq, 1)}
	ask := messageRequest{Seq: sum.next, Subject: s.cfg.Names.UsageOf(q.account)}
	out := &schema.UsageOutput{}
	switch {
	case q.from.seq > 0:
		// Another life of the stream counts from 1 again.
		if out.Behind = q.from.stream != info.Created.UnixNano() || q.from.seq < info.State.FirstSeq; !out.Behind {
			sum.next = q.from.seq
		}
		ask.Seq = sum.next
	case !q.since.IsZero():
		ask = messageRequest{Since: &q.since, Subject: ask.Subject} // stored after it ended
		out.Behind = info.State.FirstSeq > 1 && info.State.FirstTime.After(q.since)
	}
	for more := sum.next <= info.State.LastSeq; more; {
		if more, err = s.eachMessage(ctx, name, ask, sum.add); err != nil {
			return nil, fmt.Errorf("read the ledger of usage: %w", err)
		}
		ask = messageRequest{Seq: sum.next, Subject: ask.Subject}
		if more && (sum.scanned >= usageScan || len(sum.of) >= usageItems) {
			out.Cursor = place{stream: info.Created.UnixNano(), seq: sum.next}.String()
			break
		}
	}
	out.Usage = sum.items()
	return out, nil
}

type usageName struct{ function, tenant string }

// usageSum is an answer that is being added up.
type usageSum struct {
	q       usageQuery
	of      map[usageName]*schema.UsageItem
	next    uint64 // sequence
	scanned int
}

// add adds one record.
func (u *usageSum) add(_ string, seq uint64, data []byte) error {
	u.next = seq + 1
	u.scanned += len(data) + 1
	var rec schema.UsageRecord
	if err := schema.Unmarshal(data, &rec); err != nil {
		return fmt.Errorf("message %d: %w", seq, err)
	}
	if rec.Account != u.q.account || rec.To.Before(u.q.since) || !u.q.until.IsZero() && !rec.To.Before(u.q.until) {
		return nil
	}
	for i := range rec.Rows {
		row := &rec.Rows[i]
		if u.q.function != "" && row.Function != u.q.function || u.q.tenant != "" && row.Tenant != u.q.tenant || !row.Good() {
			continue
		}
		name := usageName{row.Function, row.Tenant}
		item := u.of[name]
		if item == nil {
			item = &schema.UsageItem{Function: row.Function, Tenant: row.Tenant, From: rec.From, To: rec.To}
			u.of[name] = item
		}
		item.Add(row.UsageCounts, 1)
		if rec.From.Before(item.From) {
			item.From = rec.From
		}
		if rec.To.After(item.To) {
			item.To = rec.To
		}
	}
	return nil
}

// items are the sums by function and sub-tenant.
func (u *usageSum) items() []schema.UsageItem {
	items := make([]schema.UsageItem, 0, len(u.of))
	for item := range maps.Values(u.of) {
		item.GBSeconds = item.UsageCounts.GBSeconds()
		item.From, item.To = moment(item.From), moment(item.To)
		items = append(items, *item)
	}
	slices.SortFunc(items, func(a, b schema.UsageItem) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), cmp.Compare(a.Tenant, b.Tenant))
	})
	return items
}

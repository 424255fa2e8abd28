package e2e_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// shownOfSpans are the attributes that stand in a golden tree, under a short name; of all others that they are there is checked.
var shownOfSpans = []struct{ key, name string }{
	{"faas.trigger", "trigger"}, {"messaging.operation.type", "op"}, {"faas.invoked_name", "calls"}, {"faas.name", "runs"}, {"hearth.tenant", "tenant"},
	{"hearth.arc", "arc"}, {"hearth.reason", "reason"}, {"hearth.limit", "L"}, {"hearth.members", "S"}, {"hearth.busy", "B"},
	{"hearth.in_flight", "C"}, {"hearth.attempt", "attempt"}, {"hearth.try", "try"}, {"hearth.outcome", "outcome"},
	{"hearth.start", "start"}, {"faas.coldstart", "cold"}, {"hearth.handed", "handed"}, {"hearth.duplicate", "duplicate"}, {"error.type", "error"},
}

// spanTree is the spans of one trace.
type spanTree struct {
	caller string // id of the caller's span, which is not ours
	nodes  []*spanNode
	byID   map[string]*spanNode
}

type spanNode struct {
	*trace.Span
	attrs    map[string]string
	children []*spanNode
	number   int // in the rendering
}

// newSpanTree takes the spans of a trace. Deliveries that were given back are left out: how often a call goes back before somebody has
// room, or its catcher has been patient, is a matter of moments.
func newSpanTree(spans []*trace.Span, traceID, caller string) *spanTree {
	t := &spanTree{caller: caller, byID: make(map[string]*spanNode)}
	for _, s := range spans {
		n := &spanNode{Span: s, attrs: make(map[string]string)}
		for _, a := range s.Attributes {
			n.attrs[a.Key] = valueText(a.Value)
		}
		if hex.EncodeToString(s.TraceId) == traceID && n.attrs["hearth.outcome"] != "given_back" {
			t.nodes = append(t.nodes, n)
			t.byID[hex.EncodeToString(s.SpanId)] = n
		}
	}
	slices.SortStableFunc(t.nodes, func(a, b *spanNode) int {
		return cmp.Or(cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano), cmp.Compare(a.Name, b.Name))
	})
	for _, n := range t.nodes {
		if p := t.byID[hex.EncodeToString(n.ParentSpanId)]; p != nil {
			p.children = append(p.children, n)
		}
	}
	return t
}

func valueText(v *common.AnyValue) string {
	switch v := v.Value.(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *common.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	}
	return fmt.Sprintf("%T", v.Value)
}

// String is the tree, a line a span: its number, what it hangs under, name, kind, attributes, links by number.
func (t *spanTree) String() string {
	number := 0
	var count func(n *spanNode)
	count = func(n *spanNode) {
		number++
		n.number = number
		for _, c := range n.children {
			count(c)
		}
	}
	roots := slices.DeleteFunc(slices.Clone(t.nodes), func(n *spanNode) bool { return t.byID[hex.EncodeToString(n.ParentSpanId)] != nil })
	for _, n := range roots {
		count(n)
	}
	var b strings.Builder
	for _, n := range roots {
		under := "under the caller's span"
		switch parent := hex.EncodeToString(n.ParentSpanId); parent {
		case t.caller:
		case "":
			under = "under nothing"
		default:
			under = "under a span that is not there"
		}
		t.write(&b, n, "  ", " "+under)
	}
	return b.String()
}

func (t *spanTree) write(b *strings.Builder, n *spanNode, indent, note string) {
	kind := strings.ToLower(strings.TrimPrefix(n.Kind.String(), "SPAN_KIND_"))
	fmt.Fprintf(b, "%s#%d %s %s%s", indent, n.number, n.Name, kind, note)
	for _, a := range shownOfSpans {
		value, ok := n.attrs[a.key]
		if !ok || (a.name == "B" || a.name == "C") && n.attrs["hearth.limit"] == "0" {
			continue // no arc is chosen by them there, and the end of the call before may not have been heard yet
		}
		if a.key == "hearth.arc" && strings.HasPrefix(value, "r.") {
			value = "r" // the shard and the epoch behind it are a matter of history
		}
		fmt.Fprintf(b, " %s=%s", a.name, value)
	}
	for _, e := range n.Events {
		fmt.Fprintf(b, " event=%s", e.Name)
	}
	for _, l := range n.Links {
		fmt.Fprintf(b, " %s=%s", valueText(l.Attributes[0].Value), t.linked(l))
	}
	if n.Status.GetCode() == trace.Status_STATUS_CODE_ERROR {
		b.WriteString(" FAILED")
	}
	b.WriteString("\n")
	for _, c := range n.children {
		t.write(b, c, indent+"  ", "")
	}
}

// linked names the span at the other end of a link.
func (t *spanTree) linked(l *trace.Span_Link) string {
	id := hex.EncodeToString(l.SpanId)
	switch n := t.byID[id]; {
	case n != nil:
		return fmt.Sprintf("#%d", n.number)
	case id == t.caller:
		return "caller"
	}
	return "elsewhere"
}

// attributeNames is what each kind of span has, in any of the traces: "always" what all of it have, "some" what some have.
func attributeNames(trees []*spanTree) string {
	spans := make(map[string]int)
	has := make(map[string]map[string]int)
	for _, t := range trees {
		for _, n := range t.nodes {
			name := n.Name
			if n.attrs["faas.trigger"] == "pubsub" {
				name += " of an event"
			}
			spans[name]++
			if has[name] == nil {
				has[name] = make(map[string]int)
			}
			for key := range n.attrs {
				has[name][key]++
			}
		}
	}
	var b strings.Builder
	for _, name := range sortedKeys(spans) {
		var always, some []string
		for _, key := range sortedKeys(has[name]) {
			if has[name][key] == spans[name] {
				always = append(always, key)
			} else {
				some = append(some, key)
			}
		}
		fmt.Fprintf(&b, "%s\n  always: %s\n  some:   %s\n", name, strings.Join(always, " "), strings.Join(some, " "))
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package subjects

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultPrefix starts every name of a fabric unless another is asked for.
const DefaultPrefix = "hearth"

// DefaultAccount is the account of the first start, and FabricAccount the one of operations on the fabric itself.
const (
	DefaultAccount = "default"
	FabricAccount  = Absent
)

// Names spells the subjects, streams, buckets and durables of one fabric. The zero value is not usable; get one from
// [NewNames]. A Names is immutable and safe for concurrent use.
type Names struct {
	prefix string // of subjects: "hearth"
	upper  string // of streams and buckets: "HEARTH_"
}

// NewNames gives the names of the fabric with this prefix; "" means [DefaultPrefix]. A prefix is 1 to 32 of
// [a-z0-9-], first a letter.
func NewNames(prefix string) (Names, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if len(prefix) > 32 || prefix[0] < 'a' || prefix[0] > 'z' {
		return Names{}, fmt.Errorf("prefix %q: 1 to 32 of a-z, 0-9 and -, first a letter", prefix)
	}
	for i := range len(prefix) {
		if c := prefix[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return Names{}, fmt.Errorf("prefix %q: 1 to 32 of a-z, 0-9 and -, first a letter", prefix)
		}
	}
	return Names{prefix: prefix, upper: strings.ToUpper(prefix) + "_"}, nil
}

// Prefix is the first token of every subject.
func (n Names) Prefix() string { return n.prefix }

// Invoke is the subject of a sync call; an empty tenant leaves its token out.
func (n Names) Invoke(account, function, tenant string) string {
	return n.call("invoke", account, function, tenant)
}

// Event is the subject of an async call; an empty tenant leaves its token out.
func (n Names) Event(account, function, tenant string) string {
	return n.call("event", account, function, tenant)
}

func (n Names) call(kind, account, function, tenant string) string {
	s := n.prefix + "." + kind + "." + Escape(account) + "." + Escape(function)
	if tenant != "" {
		s += "." + Escape(tenant)
	}
	return s
}

// InvokeAll is the filter of every sync call of every account.
func (n Names) InvokeAll() string { return n.prefix + ".invoke.>" }

// API is the subject of a control operation.
func (n Names) API(account, operation string) string {
	if account != FabricAccount {
		account = Escape(account)
	}
	return n.prefix + ".api." + account + "." + operation
}

// APIAny is the filter of one operation for every account.
func (n Names) APIAny(operation string) string { return n.prefix + ".api.*." + operation }

// APIAll is the filter of everything that is asked of the control service, known or not.
func (n Names) APIAll() string { return n.prefix + ".api.>" }

// ManagerControl is where a manager hears orders.
func (n Names) ManagerControl(id string) string { return n.prefix + ".m." + Escape(id) + ".ctl" }

// ManagerKey is where a manager is asked for the managers' key by another one.
func (n Names) ManagerKey(id string) string { return n.prefix + ".m." + Escape(id) + ".key" }

// ManagerClaim is where a manager is given a claim by another one.
func (n Names) ManagerClaim(id string) string { return n.prefix + ".m." + Escape(id) + ".claim" }

// ManagerStatus is where a manager tells its state.
func (n Names) ManagerStatus(id string) string { return n.prefix + ".status.manager." + Escape(id) }

// ManagerStatuses is the filter of the statuses of all managers.
func (n Names) ManagerStatuses() string { return n.prefix + ".status.manager.*" }

// FrontendStatus is where a frontend tells its calls in flight.
func (n Names) FrontendStatus(id string) string { return n.prefix + ".status.frontend." + Escape(id) }

// FrontendStatuses is the filter of the statuses of all frontends.
func (n Names) FrontendStatuses() string { return n.prefix + ".status.frontend.*" }

// StatusAll is the filter of all statuses.
func (n Names) StatusAll() string { return n.prefix + ".status.>" }

// Trace is where all frontends and managers are asked for what they know of a call.
func (n Names) Trace(requestID string) string { return n.prefix + ".trace." + Escape(requestID) }

// TraceAll is the filter of those questions.
func (n Names) TraceAll() string { return n.prefix + ".trace.*" }

// Bench is a subject for the echo that measurements compare with.
func (n Names) Bench(id string) string { return n.prefix + ".bench." + Escape(id) }

// UnreservedFilter is the filter of the consumer of unreserved arc nn.
func (n Names) UnreservedFilter(nn int) string { return n.prefix + ".arc.u." + strconv.Itoa(nn) + ".>" }

// UnreservedCall is the subject of a call on unreserved arc nn.
func (n Names) UnreservedCall(nn int, account, function, version, tenant string) string {
	return n.prefix + ".arc.u." + strconv.Itoa(nn) + "." + Escape(account) + "." + Escape(function) + "." + Escape(version) +
		"." + orAbsent(tenant)
}

// ReservedCall is the subject of a call on the reserved arc of one opening of a reservation.
func (n Names) ReservedCall(shard int, account, function, version string, epoch uint64) string {
	return n.reserved("arc", shard, account, function, version, epoch)
}

// ReservedMarker is the subject of the open marker of that arc. DESIGN 6.
func (n Names) ReservedMarker(shard int, account, function, version string, epoch uint64) string {
	return n.reserved("open", shard, account, function, version, epoch)
}

func (n Names) reserved(kind string, shard int, account, function, version string, epoch uint64) string {
	return n.prefix + "." + kind + ".r." + strconv.Itoa(shard) + "." + Escape(account) + "." + Escape(function) + "." +
		Escape(version) + "." + strconv.FormatUint(epoch, 10)
}

// ReservedAll is the filter of all calls of one shard.
func (n Names) ReservedAll(shard int) string {
	return n.prefix + ".arc.r." + strconv.Itoa(shard) + ".>"
}

// MarkersAll is the filter of all open markers of one shard.
func (n Names) MarkersAll(shard int) string {
	return n.prefix + ".open.r." + strconv.Itoa(shard) + ".>"
}

// UnreservedDurable is the durable consumer of unreserved arc nn.
func (n Names) UnreservedDurable(nn int) string { return "u-" + strconv.Itoa(nn) }

// ReservedDurable is the durable consumer of the reserved arc that was opened at this epoch, which never repeats.
func (n Names) ReservedDurable(epoch uint64) string { return "r-" + strconv.FormatUint(epoch, 10) }

// CallsU is a stream of unreserved arcs, 0 to [UnreservedStreams]-1: CALLS_U, CALLS_U1 to CALLS_U7.
func (n Names) CallsU(stream int) string {
	if stream == 0 {
		return n.upper + callsU
	}
	return n.upper + callsU + strconv.Itoa(stream)
}

const callsU = "CALLS_U"

// UnreservedNumber is which stream of unreserved arcs has this name. It allocates nothing.
func (n Names) UnreservedNumber(stream string) (number int, ok bool) {
	digits, ok := strings.CutPrefix(stream, n.upper)
	if ok {
		digits, ok = strings.CutPrefix(digits, callsU)
	}
	if !ok || digits == "" {
		return 0, ok
	}
	v, ok := number64(digits)
	return int(v), ok && 0 < v && v < UnreservedStreams
}

// CallsOf is the stream of unreserved arc nn.
func (n Names) CallsOf(nn int) string { return n.CallsU(nn % UnreservedStreams) }

// CallsR is the stream of one shard of reserved arcs, 0 to [MaxShards]-1.
func (n Names) CallsR(shard int) string { return n.upper + "CALLS_R" + strconv.Itoa(shard) }

// Events is the stream of the async calls of an account.
func (n Names) Events(account string) string { return n.upper + "EVENTS_" + Escape(account) }

// Stream names a stream that is one of its kind: RETRIES, DEADLETTERS, LOGS.
func (n Names) Stream(kind string) string { return n.upper + kind }

// Bucket names a KV bucket or an object store: functions, reservations, members, ring, arcs, limits, secrets, keys, code.
func (n Names) Bucket(kind string) string { return n.upper + kind }

// FrontendInbox is an inbox of a frontend. The id is the node's; rest may be several tokens.
func FrontendInbox(id, rest string) string { return "_HF." + Escape(id) + "." + rest }

// AnswerKind is the first token of the inboxes to which answers for callers of a frontend's own process come.
const AnswerKind = "a"

// PassesFrontend reports whether the answer that goes to this inbox passes through this frontend, which learns of the call's end
// by it.
func PassesFrontend(reply, frontend string) bool {
	rest, ok := strings.CutPrefix(reply, "_HF.")
	if ok {
		rest, ok = strings.CutPrefix(rest, Escape(frontend))
	}
	return ok && strings.HasPrefix(rest, "."+AnswerKind+".")
}

// EventInbox is an inbox of a frontend for what it pulls from the streams of events. It has a root of its own: only the server
// delivers there, and deliveries do not pass through the frontend's one subscription of its other inboxes.
func EventInbox(id, rest string) string { return "_HE." + Escape(id) + "." + rest }

// ClientInbox is an inbox of a client that has a credential of its own. A
// token of its own in front, and not one that begins with _INBOX: permissions name whole tokens, so that the fabric's nodes
// could not be given the right to answer there.
func ClientInbox(name, rest string) string { return clientInboxes + Escape(name) + "." + rest }

const clientInboxes = "_HC."

// OfClient reports whether an inbox is one of [ClientInbox]: its holder is in the NATS account of whoever sees it so, for the
// server gives the inboxes of other accounts names of its own.
func OfClient(reply string) bool { return strings.HasPrefix(reply, clientInboxes) }

// ManagerInbox is an inbox of a manager.
func ManagerInbox(id, rest string) string { return "_HM." + Escape(id) + "." + rest }

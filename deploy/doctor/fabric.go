package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// Fabric is what was seen of a NATS server and the fabric on it. What is nil was not told: the credential may not ask.
type Fabric struct {
	URL        string
	Version    string
	JetStream  bool
	MaxPayload int64
	RoundTrip  time.Duration
	Ahead      *time.Duration // the server's clock against this host's; as exact as RoundTrip

	Role, ID string  // what the credential is for
	Rights   *Rights // that it has
	Probed   *Probes // subscriptions that were tried, where Rights is nil
	Limits   *Limits // of JetStream for its account

	Asked    bool // for the managers
	Managers []Manager
	NodesErr error // nobody told: the frontends' answer, or that none came

	Disk, Room uint64 // of the folder of the streams, where that is on this host; else Room is 0
	Folder     string

	Openings []string // addresses of this host that functions may reach (--allow-local)
}

// Limits are the account's of JetStream in bytes and numbers, -1 for none, and what is used of them.
type Limits struct {
	Memory, Store, Streams, Consumers                 int64
	MemoryUsed, StoreUsed, StreamsUsed, ConsumersUsed int64
}

// Probes are subscriptions that were tried and given back at once.
type Probes struct{ Narrower, Wider []string }

// Manager is one of the ring.
type Manager struct {
	ID       string
	State    schema.MemberState
	Capacity int
}

// What a fabric needs, and from where on something is told.
const (
	wantPayload  = 8 << 20 // a call of 6 MiB with its envelope
	leastPayload = 1 << 20 // batches of log lines, events, pieces of packages
	slowTrip     = 20 * time.Millisecond
	slightSkew   = 2 * time.Second
	graveSkew    = 30 * time.Second // nbf of tokens (SECURITY 4)

	leastStreams   = 14 + subjects.UnreservedStreams // KV buckets, code, EVENTS, RETRIES, DEADLETTERS, LOGS, USAGE
	allStreams     = leastStreams + subjects.MaxShards
	leastConsumers = subjects.DefaultArcs + 64
	nearlyFull     = 90 // percent
)

// Findings judges a fabric for a credential of its role.
func (f *Fabric) Findings(publish, subscribe []string) []Finding {
	l := &list{area: AreaFabric}
	f.server(l)
	f.clock(l)
	f.limits(l)
	f.rights(l, publish, subscribe)
	f.nodes(l)
	if len(f.Openings) > 0 {
		l.add("allow-local", Warning, "functions that list it in --egress reach of this host "+few(f.Openings),
			"for development alone: start `hearth up` without --allow-local where functions of others run")
	}
	return l.all
}

// Unreachable is the finding where no server answered. It is Missing where one was named.
func Unreachable(url string, named bool, err error) Finding {
	f := Finding{Area: AreaFabric, Check: "server", State: Unknown, Found: "none answers at " + url, Fix: "`hearth up` starts a fabric; --server or --context names another"}
	if named {
		f.State, f.Fix = Missing, "start it, or name another with --server, --context and --creds"
		f.Found, _, _ = strings.Cut(err.Error(), ": start a fabric with")
		f.Found, _, _ = strings.Cut(f.Found, ": name others by")
	}
	return f
}

func (f *Fabric) server(l *list) {
	if major, minor, ok := kernelVersion(f.Version); !ok || major < 2 || major == 2 && minor < 12 {
		l.add("server", Missing, fmt.Sprintf("%s is NATS %q", f.URL, f.Version), "2.12 or later is needed: update nats-server")
	} else {
		l.ok("server", "%s is NATS %s", f.URL, f.Version)
	}
	if f.JetStream {
		l.ok("jetstream", "on")
	} else {
		l.add("jetstream", Missing, "off", "`nats-server -js`, or `jetstream { store_dir: … }` in its configuration; accounts need `jetstream: enabled`")
	}
	switch {
	case f.MaxPayload < leastPayload:
		l.add("max_payload", Missing, payloadText(f.MaxPayload)+": log lines, events and packages need 1 MiB", "`max_payload: 8MB` in the server's configuration")
	case f.MaxPayload < wantPayload:
		l.add("max_payload", Warning, payloadText(f.MaxPayload)+": calls may have 6 MiB, and are refused above that here", "`max_payload: 8MB` in the server's configuration")
	default:
		l.ok("max_payload", "%s", payloadText(f.MaxPayload))
	}
	if f.RoundTrip > slowTrip {
		l.add("round trip", Warning, fmt.Sprintf("%v: a warm call takes several", f.RoundTrip.Round(time.Microsecond)), "run the nodes near the server, or join it by a leaf node")
	} else {
		l.ok("round trip", "%v", f.RoundTrip.Round(time.Microsecond))
	}
}

func payloadText(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return bytesText(uint64(n))
}

func (f *Fabric) clock(l *list) {
	if f.Ahead == nil {
		l.add("clock", Unknown, "the server does not tell this credential its time", "")
		return
	}
	off, way := f.Ahead.Abs(), "ahead of"
	if *f.Ahead < 0 {
		way = "behind"
	}
	text := fmt.Sprintf("the server's is %v %s this host's", off.Round(time.Millisecond), way)
	const fix = "run a time service on both hosts (chrony, systemd-timesyncd)"
	switch {
	case off > graveSkew:
		l.add("clock", Missing, text+": tokens of sub-tenants are not valid yet, or no more", fix)
	case off > slightSkew:
		l.add("clock", Warning, text+": times of log lines and traces do not fit", fix)
	default:
		l.ok("clock", "the server's and this host's agree within %v", max(off, f.RoundTrip).Round(time.Millisecond)+time.Millisecond)
	}
}

func (f *Fabric) limits(l *list) {
	m := f.Limits
	if m == nil {
		if f.JetStream {
			l.add("limits", Unknown, "the server does not tell this credential JetStream's limits", "ask with an admin's credential")
		}
		return
	}
	const stream = int64(topology.CallsMaxBytes)
	const memory = stream * subjects.UnreservedStreams
	store := topology.StoreBytes()
	account := func(key string, bytes int64) string {
		return fmt.Sprintf("give the account more: `%s: %d` in its `jetstream {…}`, or `nsc edit account --js-…`", key, bytes)
	}
	switch all := memory + stream*subjects.MaxShards; {
	case m.Memory >= 0 && m.Memory < memory:
		l.add("memory of streams", Missing, fmt.Sprintf("at most %s; calls need %s", bytesText(uint64(m.Memory)), bytesText(uint64(memory))), account("max_memory", all))
	case m.Memory >= 0 && m.Memory < all:
		l.add("memory of streams", Warning, fmt.Sprintf("at most %s: room for %d of the %d streams of reservations, 64 reservations each",
			bytesText(uint64(m.Memory)), (m.Memory-memory)/stream, subjects.MaxShards), account("max_memory", all))
	default:
		l.ok("memory of streams", "%s", limitText(m.Memory, m.MemoryUsed))
	}
	switch {
	case m.Store >= 0 && m.Store < store:
		l.add("store of streams", Missing, fmt.Sprintf("at most %s; events, dead letters and logs need %s", bytesText(uint64(m.Store)), bytesText(uint64(store))), account("max_file", 2*store))
	case m.Store > 0 && m.StoreUsed*100 > m.Store*nearlyFull:
		l.add("store of streams", Warning, fmt.Sprintf("%s of %s are used", bytesText(uint64(m.StoreUsed)), bytesText(uint64(m.Store))), account("max_file", 2*m.Store))
	default:
		l.ok("store of streams", "%s", limitText(m.Store, m.StoreUsed))
	}
	if m.Streams >= 0 && m.Streams < leastStreams {
		l.add("streams", Missing, fmt.Sprintf("at most %d; %d are needed, and %d with all shards of reservations", m.Streams, leastStreams, allStreams),
			account("max_streams", allStreams))
	} else if m.Streams >= 0 && m.Streams < allStreams {
		l.add("streams", Warning, fmt.Sprintf("at most %d: not all shards of reservations have room", m.Streams), account("max_streams", allStreams))
	} else {
		l.ok("streams", "%s", countText(m.Streams, m.StreamsUsed))
	}
	if m.Consumers >= 0 && m.Consumers < leastConsumers {
		l.add("consumers", Missing, fmt.Sprintf("at most %d; %d are needed, and one for each reservation and each function that has events", m.Consumers, leastConsumers),
			account("max_consumers", 10_000))
	} else {
		l.ok("consumers", "%s", countText(m.Consumers, m.ConsumersUsed))
	}
}

func limitText(limit, used int64) string {
	if limit < 0 {
		return "no limit; used: " + bytesText(uint64(max(0, used)))
	}
	return fmt.Sprintf("%s; used: %s", bytesText(uint64(limit)), bytesText(uint64(max(0, used))))
}

func countText(limit, used int64) string {
	if limit < 0 {
		return "no limit; there are " + strconv.FormatInt(used, 10)
	}
	return fmt.Sprintf("at most %d; there are %d", limit, used)
}

func (f *Fabric) rights(l *list, publish, subscribe []string) {
	who := strings.TrimSpace(f.Role + " " + f.ID)
	narrow := func(what string, subjects []string) {
		l.add("permissions", Missing, fmt.Sprintf("too narrow for %s: it may not %s %s", who, what, few(subjects)), "`hearth credential "+who+" --print` prints them all; "+
			"or say with --role and --id whose credential it is")
	}
	wide := func(what string, subjects []string) {
		l.add("permissions", Warning, fmt.Sprintf("wider than %s needs: it may %s %s", who, what, few(subjects)), "take them away; `hearth credential "+who+" --print` prints what is needed")
	}
	said := len(l.all)
	switch {
	case f.Rights != nil:
		for _, d := range []struct {
			what string
			has  Subjects
			want []string
		}{{"publish to", f.Rights.Publish, publish}, {"subscribe to", f.Rights.Subscribe, subscribe}} {
			narrower, wider := d.has.compare(d.want)
			if len(narrower) > 0 {
				narrow(d.what, narrower)
			}
			if len(wider) > 0 {
				wide(d.what, wider)
			}
		}
	case f.Probed != nil:
		if len(f.Probed.Narrower) > 0 {
			narrow("subscribe to", f.Probed.Narrower)
		}
		if len(f.Probed.Wider) > 0 {
			wide("subscribe to", f.Probed.Wider)
		}
		if len(l.all) == said {
			l.add("permissions", Unknown, "what it may subscribe to fits "+who+"; what it may publish to is not told", "`hearth credential "+who+" --print` prints what is needed")
			return
		}
	}
	if len(l.all) == said {
		l.ok("permissions", "exactly those of %s", who)
	}
}

func (f *Fabric) nodes(l *list) {
	switch {
	case !f.Asked:
		l.add("nodes", Unknown, "the credential may not ask for them", "ask with an admin's credential")
	case f.NodesErr != nil:
		l.add("nodes", Unknown, "no frontend told: "+f.NodesErr.Error(), "`hearth up`, or `hearth manager` and `hearth frontend`, serve a fabric on this server")
	case len(f.Managers) == 0:
		l.add("nodes", Missing, "no manager is on the ring: calls are answered 503", "`hearth manager` starts one")
	default:
		places, active := 0, 0
		var others []string
		for _, m := range f.Managers {
			places += m.Capacity
			if m.State == schema.MemberActive {
				active++
			} else {
				others = append(others, fmt.Sprintf("%s is %s", m.ID, m.State))
			}
		}
		text := fmt.Sprintf("%d of %d managers are active, with %d places", active, len(f.Managers), places)
		switch {
		case active == 0:
			l.add("nodes", Missing, text+": "+few(others), "`hearth ring` shows them; `hearth manager` starts one")
		case places == 0:
			l.add("nodes", Missing, text+": nothing can run", "`hearth worker --manager ID` starts a worker; or give a manager places with --capacity")
		case len(others) > 0:
			l.add("nodes", OK, text+"; "+few(others), "")
		default:
			l.ok("nodes", "%s", text)
		}
	}
	switch {
	case f.Room == 0:
	case f.Disk < f.Room:
		l.add("disk", Missing, fmt.Sprintf("%s has %s free: events are refused below %s", f.Folder, bytesText(f.Disk), bytesText(f.Room)), "free some")
	case f.Disk < warnDisk:
		l.add("disk", Warning, fmt.Sprintf("%s has %s free", f.Folder, bytesText(f.Disk)), "free some")
	default:
		l.ok("disk", "%s has %s free", f.Folder, bytesText(f.Disk))
	}
}

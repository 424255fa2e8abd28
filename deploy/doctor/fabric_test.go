package doctor_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy"
	"github.com/hearth-run/hearth/deploy/doctor"
	"github.com/hearth-run/hearth/deploy/topology"
	"github.com/hearth-run/hearth/schema"
	"github.com/hearth-run/hearth/subjects"
)

// needed are the rights of a manager, against which a fabric of these tests is looked at.
func needed(t *testing.T) (publish, subscribe []string) {
	t.Helper()
	names, err := subjects.NewNames("")
	if err != nil {
		t.Fatal(err)
	}
	publish, subscribe, err = deploy.Rights(names, deploy.RoleManager, "m7")
	if err != nil {
		t.Fatal(err)
	}
	return publish, subscribe
}

// serving is a fabric to which nothing is missing.
func serving(t *testing.T) *doctor.Fabric {
	publish, subscribe := needed(t)
	ahead := time.Millisecond
	return &doctor.Fabric{
		URL: "nats://n", Version: "2.15.2", JetStream: true, MaxPayload: 8 << 20, RoundTrip: time.Millisecond, Ahead: &ahead,
		Role: deploy.RoleManager, ID: "m7", Rights: &doctor.Rights{Publish: doctor.Subjects{Allow: publish}, Subscribe: doctor.Subjects{Allow: subscribe}},
		Limits: &doctor.Limits{Memory: -1, Store: -1, Streams: -1, Consumers: -1}, Asked: true,
		Managers: []doctor.Manager{{ID: "m7", State: schema.MemberActive, Capacity: 8}},
		Folder:   "/data", Disk: 50 << 30, Room: 64 << 20,
	}
}

// TestFabric: each thing that a server may lack is said, with what to do, and nothing else is then.
func TestFabric(t *testing.T) {
	t.Parallel()
	publish, subscribe := needed(t)
	if all := serving(t).Findings(publish, subscribe); slices.ContainsFunc(all, func(f doctor.Finding) bool { return f.State != doctor.OK }) {
		t.Fatalf("a good fabric: %+v", all)
	}
	limits := func(change func(*doctor.Limits)) func(*doctor.Fabric) {
		return func(f *doctor.Fabric) { change(f.Limits) }
	}
	skew := func(d time.Duration) func(*doctor.Fabric) { return func(f *doctor.Fabric) { f.Ahead = &d } }
	managers := func(all ...doctor.Manager) func(*doctor.Fabric) { return func(f *doctor.Fabric) { f.Managers = all } }
	for name, tt := range map[string]struct {
		change     func(*doctor.Fabric)
		check      string
		state      doctor.State
		found, fix string
	}{
		"an old server":   {func(f *doctor.Fabric) { f.Version = "2.11.9" }, "server", doctor.Missing, `nats://n is NATS "2.11.9"`, "2.12 or later"},
		"a strange one":   {func(f *doctor.Fabric) { f.Version = "" }, "server", doctor.Missing, `NATS ""`, "2.12 or later"},
		"no JetStream":    {func(f *doctor.Fabric) { f.JetStream, f.Limits = false, nil }, "jetstream", doctor.Missing, "off", "`nats-server -js`"},
		"tiny payloads":   {func(f *doctor.Fabric) { f.MaxPayload = 64 << 10 }, "max_payload", doctor.Missing, "64 KiB", "`max_payload: 8MB`"},
		"usual payloads":  {func(f *doctor.Fabric) { f.MaxPayload = 1 << 20 }, "max_payload", doctor.Warning, "1 MiB: calls may have 6 MiB", "`max_payload: 8MB`"},
		"a far server":    {func(f *doctor.Fabric) { f.RoundTrip = 80 * time.Millisecond }, "round trip", doctor.Warning, "80ms", "leaf node"},
		"no time":         {func(f *doctor.Fabric) { f.Ahead = nil }, "clock", doctor.Unknown, "does not tell", ""},
		"a clock ahead":   {skew(5 * time.Second), "clock", doctor.Warning, "5s ahead of this host's", "chrony"},
		"a clock behind":  {skew(-time.Minute), "clock", doctor.Missing, "1m0s behind this host's: tokens", "chrony"},
		"no limits told":  {func(f *doctor.Fabric) { f.Limits = nil }, "limits", doctor.Unknown, "does not tell", "admin"},
		"no memory":       {limits(func(l *doctor.Limits) { l.Memory = 0 }), "memory of streams", doctor.Missing, "at most 0 MiB; calls need 512 MiB", "`max_memory: 4831838208`"},
		"some memory":     {limits(func(l *doctor.Limits) { l.Memory = 1 << 30 }), "memory of streams", doctor.Warning, "room for 8 of the 64", "max_memory"},
		"no store":        {limits(func(l *doctor.Limits) { l.Store = 1 << 20 }), "store of streams", doctor.Missing, "at most 1 MiB", "max_file"},
		"a full store":    {limits(func(l *doctor.Limits) { l.Store, l.StoreUsed = 100<<30, 95<<30 }), "store of streams", doctor.Warning, "95 GiB of 100 GiB", "max_file"},
		"few streams":     {limits(func(l *doctor.Limits) { l.Streams = 13 }), "streams", doctor.Missing, "at most 13; 22 are needed, and 86", "`max_streams: 86`"},
		"not all streams": {limits(func(l *doctor.Limits) { l.Streams = 30 }), "streams", doctor.Warning, "at most 30", "`max_streams: 86`"},
		"few consumers":   {limits(func(l *doctor.Limits) { l.Consumers = 100 }), "consumers", doctor.Missing, "at most 100; 128", "max_consumers"},

		"too narrow": {func(f *doctor.Fabric) { f.Rights.Publish.Allow = f.Rights.Publish.Allow[1:] }, "permissions", doctor.Missing, "too narrow for manager m7: it may not publish to " + publish[0],
			"`hearth credential manager m7 --print`"},
		"denied":     {func(f *doctor.Fabric) { f.Rights.Subscribe.Deny = []string{"_HM.>"} }, "permissions", doctor.Missing, "it may not subscribe to _HM.m7.>", "--print"},
		"wider":      {func(f *doctor.Fabric) { f.Rights.Publish.Allow = append(f.Rights.Publish.Allow, "$KV.>") }, "permissions", doctor.Warning, "wider than manager m7 needs: it may publish to $KV.>", "take them away"},
		"everything": {func(f *doctor.Fabric) { f.Rights.Publish.Allow = nil }, "permissions", doctor.Warning, "it may publish to >", "take them away"},
		"not told":   {func(f *doctor.Fabric) { f.Rights, f.Probed = nil, &doctor.Probes{} }, "permissions", doctor.Unknown, "what it may subscribe to fits manager m7", "--print"},
		"probed narrower": {func(f *doctor.Fabric) {
			f.Rights, f.Probed = nil, &doctor.Probes{Narrower: []string{"a", "b", "c", "d", "e", "f", "g", "h"}}
		}, "permissions", doctor.Missing,
			"it may not subscribe to a, b, c, d, e, f and 2 more", "--print"},
		"probed wider": {func(f *doctor.Fabric) { f.Rights, f.Probed = nil, &doctor.Probes{Wider: []string{"$SYS.>"}} }, "permissions", doctor.Warning, "it may subscribe to $SYS.>", "take them away"},

		"nobody serves": {func(f *doctor.Fabric) { f.NodesErr = errors.New("nats: no responders") }, "nodes", doctor.Unknown, "no responders", "`hearth up`"},
		"not asked":     {func(f *doctor.Fabric) { f.Asked = false }, "nodes", doctor.Unknown, "may not ask", "admin"},
		"no manager":    {managers(), "nodes", doctor.Missing, "503", "`hearth manager`"},
		"all drain":     {managers(doctor.Manager{ID: "m1", State: schema.MemberDraining, Capacity: 4}), "nodes", doctor.Missing, "0 of 1 managers are active, with 4 places: m1 is draining", "`hearth ring`"},
		"no places":     {managers(doctor.Manager{ID: "m1", State: schema.MemberActive}), "nodes", doctor.Missing, "nothing can run", "`hearth worker"},
		"one drains": {managers(doctor.Manager{ID: "m1", State: schema.MemberActive, Capacity: 4}, doctor.Manager{ID: "m2", State: schema.MemberDraining, Capacity: 4}), "nodes", doctor.OK,
			"1 of 2 managers are active, with 8 places; m2 is draining", ""},
		"no disk left": {func(f *doctor.Fabric) { f.Disk = 0 }, "disk", doctor.Missing, "/data has 0 MiB free: events are refused below 64 MiB", "free some"},
		"a full disk":  {func(f *doctor.Fabric) { f.Disk = 1 << 20 }, "disk", doctor.Missing, "/data has 1 MiB free: events are refused below 64 MiB", "free some"},
		"an opening":   {func(f *doctor.Fabric) { f.Openings = []string{"127.0.0.1:5432"} }, "allow-local", doctor.Warning, "of this host 127.0.0.1:5432", "without --allow-local"},
		"little disk":  {func(f *doctor.Fabric) { f.Disk = 800 << 20 }, "disk", doctor.Warning, "800 MiB", "free some"},
	} {
		f := serving(t)
		tt.change(f)
		all := f.Findings(publish, subscribe)
		if got := find(t, all, tt.check); got.State != tt.state || !strings.Contains(got.Found, tt.found) || !strings.Contains(got.Fix, tt.fix) {
			t.Errorf("%s: %+v; want %s, found %q, fix %q", name, got, tt.state, tt.found, tt.fix)
		}
		for _, f := range all {
			if f.Check != tt.check && f.State != doctor.OK {
				t.Errorf("%s: also %+v", name, f)
			}
		}
	}
	if leastStore := topology.StoreBytes(); leastStore < 1<<30 {
		t.Errorf("the streams hold %d bytes", leastStore)
	}
	none := errors.New("no NATS server at nats://n (refused): start a fabric with `hearth up`, or name its server by --server")
	if got := doctor.Unreachable("nats://n", true, none); got.State != doctor.Missing || got.Found != "no NATS server at nats://n (refused)" {
		t.Errorf("%+v", got)
	}
	if got := doctor.Unreachable("nats://n", false, none); got.State != doctor.Unknown || !strings.Contains(got.Fix, "`hearth up`") {
		t.Errorf("%+v", got)
	}
}

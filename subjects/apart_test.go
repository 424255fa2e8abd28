package subjects_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

// What a worker says to a manager names the worker, and is read back as nobody else's.
func TestWorkersSubjects(t *testing.T) {
	t.Parallel()
	n := fabricNames(t, "")
	sum := strings.Repeat("0af", 21) + "b"
	for _, c := range []struct{ got, want string }{
		{n.WorkerLink("w.1"), "hearth.w.w=2E1.link"},
		{n.WorkerOpen("w1"), "hearth.w.w1.open"},
		{subjects.WorkerInbox("w1", "r"), "_HW.w1.r"},
		{subjects.ManagerAny("w.1"), "_HM.*.w.w=2E1.>"},
		{subjects.ManagerHello("m1", "w.1"), "_HM.m1.w.w=2E1.hello"},
		{subjects.ManagerLink("m1", "w1", "s"), "_HM.m1.w.w1.l.s"},
		{subjects.ManagerPayload("m1", "w1", "s"), "_HM.m1.w.w1.p.s"},
		{subjects.ManagerToken("m1", "w1", "s"), "_HM.m1.w.w1.t.s"},
		{subjects.ManagerLease("m1", "w1"), "_HM.m1.w.w1.lease"},
		{n.ManagerLog("m1", "w1", n.Log("default", "f", "1", "")), "_HM.m1.w.w1.log.default.f.1._"},
		{n.ManagerLog("m1", "w1", "hearth.arc.u.1"), ""},
		{subjects.ManagerCode("m1", "w1", subjects.Piece{SHA256: sum}), "_HM.m1.w.w1.code." + sum},
		{subjects.ManagerCode("m1", "w1", subjects.Piece{SHA256: sum, Chunks: "X", From: 7}), "_HM.m1.w.w1.code." + sum + ".X.7"},
		{subjects.ManagerAsks("m1", subjects.AskHello), "_HM.m1.w.*.hello"},
		{subjects.ManagerAsks("m1", subjects.AskLog), "_HM.m1.w.*.log.>"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	for subject, want := range map[string][2]string{
		"_HM.m1.w.w=2E1.hello": {"w.1", ""}, "_HM.m1.w.w1.hello.x": {"w1", "x"},
		"_HM.m1.w.w1": {}, "_HM.m1.w..hello": {}, "_HM.m1.w._.hello": {}, "_HM.m1.w.w=2e1.hello": {}, "_HM.m2.w.w1.hello": {}, "_HM.m1.w.w1.helloo": {},
		"_HM.m1.w.w1.hello.": {}, "_HM.m1.w1.hello": {}, "": {},
	} {
		worker, rest, ok := subjects.ParseWorkerAsk(subject, "m1", subjects.AskHello)
		if got := [2]string{worker, rest}; ok != (want[0] != "") || ok && got != want {
			t.Errorf("%q is %v, %v; want %v", subject, got, ok, want)
		}
	}
	for _, p := range []subjects.Piece{{SHA256: sum}, {SHA256: sum, Chunks: "aB-_9", From: 1 << 63}} {
		_, rest, ok := subjects.ParseWorkerAsk(subjects.ManagerCode("m1", "w1", p), "m1", subjects.AskCode)
		if got, read := subjects.ParsePiece(rest); !ok || !read || got != p {
			t.Errorf("%+v is read as %+v", p, got)
		}
	}
	for _, bad := range []string{"", sum[1:], sum + "a", strings.ToUpper(sum), sum + ".", sum + ".x", sum + ".x.", sum + ".*.1", sum + ".>.1", sum + ".x.01", sum + ".x.1.2"} {
		if p, ok := subjects.ParsePiece(bad); ok {
			t.Errorf("%q is %+v", bad, p)
		}
	}
	for rest, want := range map[string]bool{"default.f.1._": true, "default.f.1": false, "default.f.*._": false, "default.f.1.>": false, "default.f.1._.x": false} {
		if log, ok := n.LogOfAsk(rest); ok != want || log != "hearth.log."+rest {
			t.Errorf("%q is %q, %v", rest, log, ok)
		}
	}
}

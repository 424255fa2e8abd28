package subjects_test

import (
	"math"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

func fabricNames(t testing.TB, prefix string) subjects.Names {
	t.Helper()
	n, err := subjects.NewNames(prefix)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := fabricNames(t, "")
	for _, c := range []struct{ got, want string }{
		{n.Prefix(), "hearth"},
		{n.Invoke("default", "resize", ""), "hearth.invoke.default.resize"},
		{n.Invoke("default", "resize", "ACME Inc."), "hearth.invoke.default.resize.ACME=20Inc=2E"},
		{n.Event("default", "resize", "t"), "hearth.event.default.resize.t"},
		{n.API("default", "GetFunction"), "hearth.api.default.GetFunction"},
		{n.API(subjects.FabricAccount, "GetRing"), "hearth.api._.GetRing"},
		{n.APIAny("GetFunction"), "hearth.api.*.GetFunction"},
		{n.APIAll(), "hearth.api.>"},
		{n.UnreservedCall(17, "default", "resize", "$LATEST", ""), "hearth.arc.u.17.default.resize.=24LATEST._"},
		{n.UnreservedCall(17, "default", "resize", "3", "_"), "hearth.arc.u.17.default.resize.3.=5F"},
		{n.UnreservedFilter(17), "hearth.arc.u.17.>"},
		{n.UnreservedDurable(17), "u-17"},
		{n.ReservedCall(0, "default", "resize", "1", 7), "hearth.arc.r.0.default.resize.1.7"},
		{n.ReservedMarker(0, "default", "resize", "1", 7), "hearth.open.r.0.default.resize.1.7"},
		{n.ReservedDurable(7), "r-7"},
		{n.ManagerStatus("m.1"), "hearth.status.manager.m=2E1"},
		{n.CallsU(0), "HEARTH_CALLS_U"},
		{n.CallsU(7), "HEARTH_CALLS_U7"},
		{n.CallsOf(17), "HEARTH_CALLS_U1"},
		{n.CallsOf(64), "HEARTH_CALLS_U"},
		{n.CallsR(3), "HEARTH_CALLS_R3"},
		{n.Events("default"), "HEARTH_EVENTS_default"},
		{n.Bucket("functions"), "HEARTH_functions"},
		{fabricNames(t, "blue-2").Stream("LOGS"), "BLUE-2_LOGS"},
		{subjects.FrontendInbox("f1", "p.0"), "_HF.f1.p.0"},
		{subjects.UnreservedName(17), "u.17"},
		{subjects.ArcCall{Reserved: true, Account: "default", Function: "resize", Version: "1", Epoch: 7}.ArcName(), "r.0.default.resize.1.7"},
		{subjects.ArcCall{Number: 17}.ArcName(), "u.17"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	for _, prefix := range []string{"Hearth", "1a", "-a", "a.b", "a_b", "a*", "a b", strings.Repeat("a", 33), "ü"} {
		if _, err := subjects.NewNames(prefix); err == nil {
			t.Errorf("prefix %q is taken", prefix)
		}
	}
}

func TestParseRefusesWhatNamesDoNotYield(t *testing.T) {
	t.Parallel()
	n := fabricNames(t, "")
	for _, s := range []string{
		"", "hearth", "hearth.invoke", "hearth.invoke.", "hearth.invoke.default", "hearth.invoke.default.", "hearth.invoke..f", "hearth.invoke.a.f.",
		"hearth.invoke.a.f.t.u", "hearth.invoke.a.*", "hearth.invoke.a.>", "hearth.invoke.*.f", "hearth.invoke.a.f._", "hearth.invoke._.f",
		"hearth.invoke.a.=", "hearth.invoke.a.=66", "hearth.invoke.a.f g", "Hearth.invoke.a.f", "hearthx.invoke.a.f", "hearth.event.a.f",
		"hearth.invoke.a." + strings.Repeat("f", subjects.MaxSubject),
	} {
		if got, ok := n.ParseInvoke(s); ok {
			t.Errorf("ParseInvoke(%q) = %+v", s, got)
		}
	}
	for _, s := range []string{
		"hearth.arc.u.1.a.f.1", "hearth.arc.u.1.a.f.1._.x", "hearth.arc.u.01.a.f.1._", "hearth.arc.u.+1.a.f.1._", "hearth.arc.u.70000.a.f.1._",
		"hearth.arc.u.*.a.f.1._", "hearth.arc.u.1.a.f.1.>", "hearth.arc.u.1.a.f._.t", "hearth.arc.u.1._.f.1._", "hearth.arc.x.1.a.f.1._",
		"hearth.arc.r.1.a.f.1._", "hearth.arc.r.1.a.f.1.007", "hearth.arc.r.1.a.f.1.18446744073709551616", "hearth.arc.u.1.a..1._", "hearth.open.r.1.a.f.1.7",
	} {
		if got, ok := n.ParseArc(s); ok {
			t.Errorf("ParseArc(%q) = %+v", s, got)
		}
	}
	for _, s := range []string{
		"hearth.api.default", "hearth.api.default.", "hearth.api.default.Get.Function", "hearth.api.*.GetRing", "hearth.api.default.*", "hearth.api..GetRing",
		"hearth.api.=5F.GetRing", // an account called "_" is not the fabric
	} {
		if a, o, ok := n.ParseAPI(s); ok {
			t.Errorf("ParseAPI(%q) = %q, %q", s, a, o)
		}
	}
}

func FuzzParseInvoke(f *testing.F) {
	f.Add("hearth.invoke.default.resize", "default", "resize", "")
	f.Add("hearth.invoke.a.=24.=5F", "_", "$LATEST", "a b.c")
	f.Add("hearth.invoke.*.>", "", ">", "*")
	n := fabricNames(f, "")
	f.Fuzz(func(t *testing.T, subject, account, function, tenant string) {
		if c, ok := n.ParseInvoke(subject); ok {
			if back := n.Invoke(c.Account, c.Function, c.Tenant); back != subject || strings.ContainsAny(subject, "*> ") {
				t.Fatalf("%q read as %+v, which is spelled %q", subject, c, back)
			}
		}
		want := subjects.Target{Account: account, Function: function, Tenant: tenant}
		s := n.Invoke(account, function, tenant)
		got, ok := n.ParseInvoke(s)
		if whole := account != "" && function != "" && len(s) <= subjects.MaxSubject; ok != whole || ok && got != want {
			t.Fatalf("%+v spelled %q, read as %+v, %v", want, s, got, ok)
		}
	})
}

func FuzzParseArc(f *testing.F) {
	f.Add("hearth.arc.u.17.default.resize.=24LATEST._", uint16(17), "default", "resize", "1", "t", uint64(7))
	f.Add("hearth.arc.r.0.default.resize.1.7", uint16(0), "_", "a.b", "$LATEST", "", uint64(math.MaxUint64))
	f.Add("hearth.arc.u.*.>", uint16(255), "", "*", ">", "_", uint64(0))
	n := fabricNames(f, "")
	f.Fuzz(func(t *testing.T, subject string, number uint16, account, function, version, tenant string, epoch uint64) {
		spell := func(c subjects.ArcCall) string {
			if c.Reserved {
				return n.ReservedCall(c.Number, c.Account, c.Function, c.Version, c.Epoch)
			}
			return n.UnreservedCall(c.Number, c.Account, c.Function, c.Version, c.Tenant)
		}
		if c, ok := n.ParseArc(subject); ok && (spell(c) != subject || strings.ContainsAny(subject, "*> ")) {
			t.Fatalf("%q read as %+v, which is spelled %q", subject, c, spell(c))
		}
		for _, want := range []subjects.ArcCall{
			{Number: int(number), Account: account, Function: function, Version: version, Tenant: tenant},
			{Reserved: true, Number: int(number), Account: account, Function: function, Version: version, Epoch: epoch},
		} {
			s := spell(want)
			got, ok := n.ParseArc(s)
			if whole := account != "" && function != "" && version != "" && len(s) <= subjects.MaxSubject; ok != whole || ok && got != want {
				t.Fatalf("%+v spelled %q, read as %+v, %v", want, s, got, ok)
			}
		}
	})
}

func FuzzParseRetryDue(f *testing.F) {
	names, err := subjects.NewNames("")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		names.RetryDue("default", "f"), names.RetryDue("a.b", "_"), names.RetryHeld("default", "f", "x/1"), "hearth.retry.due.", "hearth.retry.due.a.b.c",
		"hearth.retry.due.*.>", "hearth.retry.due.0.=", "hearth.retry", "",
	} {
		f.Add(s, "default", "a.b")
	}
	f.Fuzz(func(t *testing.T, subject, account, function string) {
		a, fn, ok := names.ParseRetryDue(subject)
		if ok && names.RetryDue(a, fn) != subject || !ok && a+fn != "" {
			t.Errorf("%q is read as %q, %q, %v, which is %q", subject, a, fn, ok, names.RetryDue(a, fn))
		}
		s := names.RetryDue(account, function)
		a, fn, ok = names.ParseRetryDue(s)
		if whole := account != "" && function != "" && len(s) <= subjects.MaxSubject; ok != whole || ok && (a != account || fn != function) {
			t.Errorf("%q of %q spelled %q, read as %q, %q, %v", function, account, s, a, fn, ok)
		}
	})
}

func FuzzParseAPI(f *testing.F) {
	f.Add("hearth.api.default.GetFunction", "default")
	f.Add("hearth.api._.GetRing", "_")
	f.Add("hearth.api.=5F.GetRing", "")
	n := fabricNames(f, "")
	f.Fuzz(func(t *testing.T, subject, account string) {
		if a, o, ok := n.ParseAPI(subject); ok && (n.API(a, o) != subject || strings.ContainsAny(subject, "*> ")) {
			t.Fatalf("%q read as %q and %q, which is spelled %q", subject, a, o, n.API(a, o))
		}
		s := n.API(account, "GetFunction")
		a, o, ok := n.ParseAPI(s)
		if whole := account != "" && len(s) <= subjects.MaxSubject; ok != whole || ok && (a != account || o != "GetFunction") {
			t.Fatalf("account %q spelled %q, read as %q, %q, %v", account, s, a, o, ok)
		}
	})
}

func TestPassesFrontend(t *testing.T) { // not parallel: allocations are counted
	for _, c := range []struct {
		reply, frontend string
		want            bool
	}{
		{subjects.FrontendInbox("f1", "a.00ff"), "f1", true},
		{subjects.FrontendInbox("a.b", "a.00ff"), "a.b", true},
		{subjects.FrontendInbox("f1", "p.00ff"), "f1", false},
		{subjects.FrontendInbox("f1", "a"), "f1", false},
		{subjects.FrontendInbox("f1", "ab.00ff"), "f1", false},
		{subjects.FrontendInbox("f11", "a.00ff"), "f1", false},
		{subjects.FrontendInbox("f1", "a.00ff"), "f11", false},
		{"_INBOX.f1.a.00ff", "f1", false},
		{"", "", false},
	} {
		if got := subjects.PassesFrontend(c.reply, c.frontend); got != c.want {
			t.Errorf("%q of %q: %v", c.reply, c.frontend, got)
		}
	}
	reply := subjects.FrontendInbox("0123456789abcdef", "a.0123456789abcdef")
	if n := testing.AllocsPerRun(100, func() { subjects.PassesFrontend(reply, "0123456789abcdef") }); n > 0 {
		t.Errorf("%v allocations for each call", n)
	}
}

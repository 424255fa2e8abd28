package subjects_test

import (
	"strings"
	"testing"

	"github.com/hearth-run/hearth/subjects"
)

func TestReplies(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]struct{ stranger, fabric bool }{
		"_INBOX.abc.1":                         {true, true},
		"_INBOX_bob.abc":                       {true, true},
		"_HC.shop.abc":                         {true, true},
		"_R_.xyz.1":                            {true, true},
		"_HF.f1.a.00":                          {false, true},
		"_HM.m1.x":                             {false, true},
		"_HW.w1.x":                             {false, true},
		"":                                     {},
		"_INBOX":                               {},
		"_INBOX.":                              {},
		"_INBOX_.x":                            {},
		"_INBOXX.x":                            {},
		"_INBOX.a..b":                          {},
		"_INBOX.*":                             {},
		"_INBOX.>":                             {},
		"_INBOX.a b":                           {},
		"_INBOX.a\r\nPUB x 1":                  {},
		"_INBOX.a\x00":                         {},
		"_HF":                                  {},
		"_HX.a":                                {},
		"$JS.API.STREAM.DELETE.HEARTH_CALLS_U": {},
		"$KV.HEARTH_functions.default.f":       {},
		"hearth.invoke.default.f":              {},
		"_INBOX." + strings.Repeat("a", 256):   {},
		"_INBOX." + strings.Repeat("a", 256-7): {true, true},
		"_HF." + strings.Repeat("a", 256-4) + "b": {},
	} {
		if got := subjects.ReplyAllowed(reply); got != want.stranger {
			t.Errorf("ReplyAllowed(%q) = %v", reply, got)
		}
		if got := subjects.FabricReplyAllowed(reply); got != want.fabric {
			t.Errorf("FabricReplyAllowed(%q) = %v", reply, got)
		}
	}
}

func FuzzReplyAllowed(f *testing.F) {
	for _, s := range []string{"_INBOX.a", "_INBOX_u.a", "_R_.a", "_HF.f.a", "$JS.API.X", "_INBOX.*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		stranger, fabric := subjects.ReplyAllowed(reply), subjects.FabricReplyAllowed(reply)
		if stranger && !fabric {
			t.Fatalf("%q is open to strangers and not to the fabric", reply)
		}
		if !fabric {
			return
		}
		if len(reply) > subjects.MaxReply || strings.ContainsAny(reply, "*> \t\r\n\x00") || strings.Contains(reply, "..") ||
			strings.HasSuffix(reply, ".") || reply[0] != '_' {
			t.Fatalf("%q is allowed", reply)
		}
	})
}

func TestParseAck(t *testing.T) {
	t.Parallel()
	want := subjects.Ack{
		Stream: "HEARTH_CALLS_U1", Consumer: "u-17", Delivered: 2, StreamSeq: 1764000000000001, ConsumerSeq: 9, Timestamp: 1764000000123456789, Pending: 3,
	}
	const tail = "HEARTH_CALLS_U1.u-17.2.1764000000000001.9.1764000000123456789.3"
	for _, s := range []string{"$JS.ACK." + tail, "$JS.ACK._.AbC123." + tail, "$JS.ACK.hub.AbC123." + tail + ".rAnD"} {
		if got, ok := subjects.ParseAck(s); !ok || got != want {
			t.Errorf("ParseAck(%q) = %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{
		"", "$JS.ACK.", "$JS.ACK", "$JS.ACK." + tail + ".1", "$JS.ACK.a." + tail + ".x.y.z", "$JS.NAK." + tail, "x$JS.ACK." + tail,
		"$JS.ACK..u-17.2.1.9.1.3", "$JS.ACK.S.C.x.1.9.1.3", "$JS.ACK.S.C.01.1.9.1.3", "$JS.ACK.S.C.1.1.9.-1.3", "$JS.ACK.S.C.1.1.9.1.",
		"$JS.ACK.S.C.1.18446744073709551616.9.1.3", "$JS.ACK.S.C.1.1.9.9223372036854775808.3", "$JS.ACK.hub.." + tail, "$JS.ACK.hub.h." + tail + ".",
	} {
		if got, ok := subjects.ParseAck(s); ok || got != (subjects.Ack{}) {
			t.Errorf("ParseAck(%q) = %+v, %v", s, got, ok)
		}
	}
}

func TestAckAllowed(t *testing.T) {
	t.Parallel()
	n := fabricNames(t, "")
	for s, want := range map[string]bool{
		"$JS.ACK.HEARTH_CALLS_U1.u-17.1.5.1.9.0":                                   true,
		"$JS.ACK._.hash.HEARTH_CALLS_U1.u-17.1.5.1.9.0.rnd":                        true,
		"$JS.ACK.HEARTH_CALLS_U.u-248.1.5.1.9.0":                                   true,
		"$JS.ACK.HEARTH_CALLS_U.u-17.1.5.1.9.0":                                    false, // which lies in another
		"$JS.ACK.HEARTH_CALLS_U0.u-8.1.5.1.9.0":                                    false,
		"$JS.ACK.HEARTH_CALLS_U01.u-9.1.5.1.9.0":                                   false,
		"$JS.ACK.HEARTH_CALLS_U8.u-8.1.5.1.9.0":                                    false,
		"$JS.ACK.HEARTH_CALLS_R63.r-99.1.5.1.9.0":                                  true,
		"$JS.ACK.HEARTH_CALLS_R64.r-99.1.5.1.9.0":                                  false,
		"$JS.ACK.HEARTH_CALLS_R063.r-9.1.5.1.9.0":                                  false,
		"$JS.ACK.HEARTH_CALLS_R1.u-9.1.5.1.9.0":                                    false,
		"$JS.ACK.HEARTH_CALLS_U.u-256.1.5.1.9.0":                                   false,
		"$JS.ACK.HEARTH_CALLS_U.r-1.1.5.1.9.0":                                     false,
		"$JS.ACK.HEARTH_CALLS_U1.u-1*.1.5.1.9.0":                                   false,
		"$JS.ACK.*.hash.HEARTH_CALLS_U1.u-1.1.5.1.9.0":                             false,
		"$JS.ACK.HEARTH_EVENTS_default.x.1.5.1.9.0":                                false,
		"$JS.ACK.OTHER_CALLS_U1.u-17.1.5.1.9.0":                                    false,
		"$JS.API.STREAM.DELETE.HEARTH_CALLS_U":                                     false,
		"_INBOX.a":                                                                 false,
		"$JS.ACK." + strings.Repeat("d", 256) + ".h.HEARTH_CALLS_U1.u-1.1.5.1.9.0": false,
	} {
		if got := n.AckAllowed(s); got != want {
			t.Errorf("AckAllowed(%q) = %v", s, got)
		}
	}
}

func TestReadingAClaimAllocatesNothing(t *testing.T) {
	n := fabricNames(t, "")
	const ack = "$JS.ACK._.AbC123.HEARTH_CALLS_U1.u-17.2.1764000000000001.9.1764000000123456789.3.rAnD"
	const call = "hearth.arc.u.17.default.resize.12._"
	for name, read := range map[string]func(){
		"ParseAck":           func() { subjects.ParseAck(ack) },
		"ParseArc":           func() { n.ParseArc(call) },
		"ReplyAllowed":       func() { subjects.ReplyAllowed("_INBOX.abc.1") },
		"FabricReplyAllowed": func() { subjects.FabricReplyAllowed("_HF.f1.a.0011223344556677") },
		"AckAllowed":         func() { n.AckAllowed(ack) },
	} {
		if got := testing.AllocsPerRun(100, read); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func FuzzParseAck(f *testing.F) {
	f.Add("$JS.ACK.HEARTH_CALLS_U1.u-17.1.5.1.9.0")
	f.Add("$JS.ACK._.hash.HEARTH_CALLS_U1.u-17.1.5.1.9.0.rnd")
	f.Add("$JS.ACK...........")
	n := fabricNames(f, "")
	f.Fuzz(func(t *testing.T, subject string) {
		a, ok := subjects.ParseAck(subject)
		if ok && (a.Stream == "" || a.Consumer == "" || a.Timestamp < 0 || !strings.HasPrefix(subject, "$JS.ACK.")) {
			t.Fatalf("%q read as %+v", subject, a)
		}
		if n.AckAllowed(subject) && (!ok || !strings.HasPrefix(a.Stream, "HEARTH_CALLS_") || strings.ContainsAny(subject, "*> \r\n")) {
			t.Fatalf("%q may be acknowledged: %+v", subject, a)
		}
	})
}

func BenchmarkParseAck(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		subjects.ParseAck("$JS.ACK.HEARTH_CALLS_U1.u-17.2.1764000000000001.9.1764000000123456789.3")
	}
}

func BenchmarkParseArc(b *testing.B) {
	n := fabricNames(b, "")
	b.ReportAllocs()
	for b.Loop() {
		n.ParseArc("hearth.arc.u.17.default.resize.=24LATEST._")
	}
}

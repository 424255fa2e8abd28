package sim_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/deploy/sim"
)

func read(text string) (all []sim.Call, err error) {
	t, err := sim.NewTrace(strings.NewReader(text))
	for err == nil {
		var c sim.Call
		if c, err = t.Next(); err == nil {
			all = append(all, c)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

func TestTrace(t *testing.T) {
	t.Parallel()
	all, err := read("\ufeffFunction, at_ms ,duration_ms,init_ms,tenant,memory_mb\r\n" +
		"resize,0,12.5,,,\r\n\r\n" + `"count",1700000000000.25,0,300,"a, b",256` + "\n" + "resize,3,1,0,,")
	if err == nil || !strings.Contains(err.Error(), `line 4: tenant is "a, b"`) {
		t.Errorf("%v", err) // a comma is none of a sub-tenant's bytes
	}
	if len(all) != 1 || all[0] != (sim.Call{Function: "resize", Run: 12500 * time.Microsecond, Line: 2}) {
		t.Errorf("%+v", all)
	}
	all, err = read("at_ms,function,duration_ms,init_ms,tenant,memory_mb\n\"5\",count,1,300,\"a:b\",256\n6,count,2,,c,256")
	want := []sim.Call{
		{At: 5 * time.Millisecond, Function: "count", Run: time.Millisecond, Init: 300 * time.Millisecond, Tenant: "a:b", MemoryMB: 256, Line: 2},
		{At: 6 * time.Millisecond, Function: "count", Run: 2 * time.Millisecond, Tenant: "c", MemoryMB: 256, Line: 3},
	}
	if err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("%v\n%+v\n%+v", err, all, want)
	}
}

// Each line is refused by number and field.
func TestTraceRefuses(t *testing.T) {
	t.Parallel()
	const head = "at_ms,function,duration_ms,init_ms,tenant,memory_mb\n"
	for _, c := range []struct{ text, says string }{
		{"", "line 1: is missing: a header is wanted"},
		{"\n \n", "is missing: a header is wanted"},
		{"at_ms,function\n", "line 1: duration_ms is missing in the header"},
		{"at_ms,function,duration_ms,cpu\n", "line 1: cpu is no column of a trace"},
		{"at_ms,function,at_ms,duration_ms\n", "line 1: at_ms stands twice"},
		{"0,f,1\n", "line 1: 0 is no column of a trace"},
		{head + "1,f,1,,\n", "line 2: has 5 fields, the header has 6"},
		{head + "\n\n-1,f,1,,,\n", `line 4: at_ms is "-1"; milliseconds, 0 to 4000000000000`},
		{head + "1e3,f,1,,,\n", `line 2: at_ms is "1e3"`},
		{head + ".,f,1,,,\n", `line 2: at_ms is "."`},
		{head + "NaN,f,1,,,\n", `line 2: at_ms is "NaN"`},
		{head + ",f,1,,,\n", `line 2: at_ms is ""`},
		{head + "99999999999999,f,1,,,\n", "line 2: at_ms is"},
		{head + "1,f,-2,,,\n", `line 2: duration_ms is "-2"; milliseconds, 0 to 86400000`},
		{head + "1,f,inf,,,\n", `line 2: duration_ms is "inf"`},
		{head + "1,f,1,x,,\n", `line 2: init_ms is "x"; milliseconds, 0 to 900000`},
		{head + "1,f,1,900001,,\n", "line 2: init_ms is"},
		{head + "1,,1,,,\n", `line 2: function is ""; a name`},
		{head + "1,a b,1,,,\n", `line 2: function is "a b"; a name`},
		{head + "1,f,1,,*,\n", `line 2: tenant is "*"`},
		{head + "1,f,1,,,0\n", `line 2: memory_mb is "0"; a whole number of MB, 1 to 10240`},
		{head + "1,f,1,,,12.5\n", `line 2: memory_mb is "12.5"`},
		{head + "1,f,1,,,128\n2,f,1,,,256\n", `line 3: memory_mb is "256"; 128, as line 2 says of function f`},
		{head + "1,f,1,,a,\n2,f,1,,,\n", `line 3: tenant is ""; a sub-tenant, since line 2 names one`},
		{head + "1,f,1,,,\n2,f,1,,a,\n", `line 3: tenant is "a"; nothing, since line 2 names no sub-tenant`},
		{head + `1,"f,1,,,` + "\n", "line 2: is no CSV"},
		{head + `1,f"x,1,,,` + "\n", "line 2: is no CSV"},
		{head + "1,f," + strings.Repeat("1", 70_000) + "\n", "line 2: is longer than 65536 bytes"},
	} {
		_, err := read(c.text)
		var line *sim.LineError
		if !errors.As(err, &line) || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 400 {
			t.Errorf("%.80q: %v, wants %q", c.text, err, c.says)
		}
	}
}

// What cannot be read is no fault of the trace.
func TestTraceOfABrokenReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	tr, err := sim.NewTrace(io.MultiReader(strings.NewReader("at_ms,function,duration_ms\n1,f,1\n2,f"), failing{broken}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Next(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var line *sim.LineError
		if _, err := tr.Next(); !errors.Is(err, broken) || errors.As(err, &line) {
			t.Errorf("%v", err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func FuzzTrace(f *testing.F) {
	for _, seed := range []string{
		"", "at_ms,function,duration_ms\n", "at_ms,function,duration_ms\n0,f,1\n5,g,2.5\n",
		"function,tenant,at_ms,memory_mb,duration_ms,init_ms\nf,a,1,128,1,300\n\"f\",b,1,128,1,\n", "at_ms,function,duration_ms\n\"1\n", "\xef\xbb\xbfat_ms,function,duration_ms\r\n1,f,1\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := read(text)
		var line *sim.LineError
		if err != nil && (!errors.As(err, &line) || line.Line < 1 || line.Line > strings.Count(text, "\n")+2 || strings.Contains(err.Error(), "\n")) {
			t.Fatalf("%q", err)
		}
		for _, c := range all {
			if c.At < 0 || c.Run < 0 || c.Init < 0 || c.MemoryMB < 0 || c.Function == "" || c.Line < 2 {
				t.Fatalf("%+v", c)
			}
		}
	})
}

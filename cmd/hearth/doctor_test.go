package main

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/hearth-run/hearth/deploy/doctor"
)

// TestDoctor looks at the host on which it runs, with the command as people run it.
func TestDoctor(t *testing.T) {
	t.Parallel()
	r := surroundings{env: map[string]string{"PATH": os.Getenv("PATH")}}.run(t, "doctor", "--driver", "native", "--data", t.TempDir(), "--json")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	var all []doctor.Finding
	for _, line := range lines[:len(lines)-1] {
		var f doctor.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Area == "" || f.Check == "" || f.State == "" || f.Found == "" {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, f)
	}
	var sum doctorSummary
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil {
		t.Fatal(err)
	}
	want := exitOK
	if doctor.Worst(all) == doctor.Missing {
		want = exitMissing
	}
	if r.code != want || sum.Summary.OK != (want == exitOK) || sum.Summary.Native && runtime.GOOS != "linux" {
		t.Errorf("code %d, want %d; %+v\n%s", r.code, want, sum, r.stdout)
	}
	if os.Getenv("CI") == "true" && os.Geteuid() == 0 && !sum.Summary.Native {
		t.Errorf("CI=true, and no sandbox: %s", r.stdout)
	}
}

// TestDoctorTells: what it found, for people, and its exit code.
func TestDoctorTells(t *testing.T) {
	t.Parallel()
	var out buffer
	a := surroundings{}.app(t)
	a.stdout = &out
	cmd := a.doctor()
	ok := doctor.Finding{Area: doctor.AreaHost, Check: "cores", State: doctor.OK, Found: "2"}
	warned := doctor.Finding{Area: doctor.AreaRuntimes, Check: "python", State: doctor.Warning, Found: "there is\nnone", Fix: "get one"}
	lacking := doctor.Finding{Area: doctor.AreaSandbox, Check: "landlock", State: doctor.Missing, Found: "none", Fix: "boot with it"}
	for _, tt := range []struct {
		all  []doctor.Finding
		says string
		code int
	}{
		{[]doctor.Finding{ok}, "This host\n  ok       cores  2\n\nNothing is missing.\n", exitOK},
		{[]doctor.Finding{ok, warned}, "This host\n  ok       cores   2\n\nRuntimes\n  warning  python  there is none\n                   -> get one\n\nNothing is missing; 1 thing is worth a look.\n", exitOK},
		{[]doctor.Finding{ok, lacking}, "This host\n  ok       cores     2\n\nDriver native (the sandbox)\n  missing  landlock  none\n                     -> boot with it\n\n1 thing is missing; what to do stands below each.\n", exitMissing},
	} {
		out.b.Reset()
		if code := a.exit(t.Context(), a.printFindings(cmd, tt.all, false)); code != tt.code || out.String() != tt.says {
			t.Errorf("code %d, want %d\n%q\n%q", code, tt.code, out.String(), tt.says)
		}
	}
}

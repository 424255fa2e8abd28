package manager

import (
	"testing"
	"time"
)

const (
	server = int64(1_700_000_000_000_000_000) // the server's clock at the beginning of the manager's
	budget = 10 * time.Second
)

// judged is one message: how long after the manager's beginning it came, and how old it was then.
type judged struct {
	at, age time.Duration
	shift   time.Duration // of the server's clock
	want    time.Duration
	sure    bool
}

func TestAges(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for name, script := range map[string][]judged{
		"the first is in doubt, for nothing is known": {
			{at: 0, age: 0, want: 0, sure: false},
			{at: 500 * ms, age: 0, want: 0, sure: false},
			{at: 1001 * ms, age: 0, want: 0, sure: true},
			{at: 1002 * ms, age: 400 * ms, want: 400 * ms, sure: true},
		},
		"a first one that had waited is found out": {
			{at: 0, age: 5 * time.Second, want: 0, sure: false},
			{at: 2000 * ms, age: 0, want: 0, sure: false}, // the base moved
			{at: 2001 * ms, age: 5 * time.Second, want: 5 * time.Second, sure: false},
			{at: 3100 * ms, age: 5 * time.Second, want: 5 * time.Second, sure: true},
		},
		"the server's clock is set back by an hour": {
			{at: 0},
			{at: 1100 * ms, sure: true},
			{at: 2000 * ms, shift: -time.Hour, want: 0, sure: false}, // no call lives for an hour
			{at: 3100 * ms, shift: -time.Hour, age: 300 * ms, want: 300 * ms, sure: true},
		},
		"the server's clock is set forward": {
			{at: 0},
			{at: 1100 * ms, sure: true},
			{at: 2000 * ms, shift: time.Minute, want: 0, sure: false},
			{at: 3100 * ms, shift: time.Minute, age: 300 * ms, want: 300 * ms, sure: true},
		},
		"small drift is followed": {
			{at: 0},
			{at: 1100 * ms, sure: true},
			{at: 1200 * ms, shift: 20 * ms, sure: true},
			{at: 1300 * ms, shift: 20 * ms, age: 50 * ms, want: 50 * ms, sure: true},
		},
		"what nobody looked at for a minute is not known": {
			{at: 0},
			{at: 1100 * ms, sure: true},
			{at: 70 * time.Second, age: 0, want: 0, sure: false},
		},
		"the window turns without a gap": {
			{at: 0},
			{at: 31 * time.Second, sure: true},
			{at: 62 * time.Second, age: 200 * ms, want: 200 * ms, sure: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a ages
			for i, j := range script {
				stamp := server + int64(j.at+j.shift-j.age)
				age, sure := a.judge(stamp, 1, j.at, budget)
				if age != j.want || sure != j.sure {
					t.Fatalf("message %d: age %v, sure %v; want %v, %v", i, age, sure, j.want, j.sure)
				}
			}
		})
	}
}

func TestPulse(t *testing.T) {
	t.Parallel()
	var p pulse
	p.last.Store(0)
	if p.doubtful(900 * time.Millisecond) {
		t.Error("in doubt within a second of a beat")
	}
	if !p.doubtful(1100 * time.Millisecond) {
		t.Error("not in doubt a second after the last beat")
	}
	p.beat(1200 * time.Millisecond)
	if !p.doubtful(1201 * time.Millisecond) {
		t.Error("a late beat hides that it was late")
	}
	for at := 1300 * time.Millisecond; at < 6*time.Second; at += 100 * time.Millisecond {
		p.beat(at)
	}
	if p.doubtful(6 * time.Second) {
		t.Error("in doubt for ever")
	}
}

func TestServerVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"2.12.0": true, "2.15.2": true, "3.0.0": true, "v2.12.1": true, "2.12.0-preview.1": true, "2.11.9": false, "1.99.0": false,
		"": false, "2": false, "x.y.z": false,
	} {
		if got := checkServer(version) == nil; got != want {
			t.Errorf("%q: accepted %v, want %v", version, got, want)
		}
	}
}

//go:build linux && (amd64 || arm64)

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hearth-run/hearth/client"
	"github.com/hearth-run/hearth/e2e/fabric"
	"github.com/hearth-run/hearth/schema"
	guest "github.com/hearth-run/hearth/worker/driver/native/hostile"
)

// TestSandbox is what a hostile function gets on a real fabric with the driver `native`: S51, S70 and S71.
func TestSandbox(t *testing.T) {
	t.Parallel()
	needsSandbox(t)
	// Somebody on this host whom functions may reach that list him.
	friend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = friend.Close() })
	f := fabric.Start(t, fabric.Options{Managers: 1, Capacity: 30, Driver: "native", Flags: []string{"--allow-local", friend.Addr().String()}})
	dir := fabric.Bootstrap(t, "hostile")
	deploy := func(name string, flags ...string) {
		f.MustCLI(append([]string{"deploy", name, dir, "--runtime", "provided"}, flags...)...)
	}
	deploy("crashing", "--memory", "128", "--timeout", "60s") // time to take all of its memory on a machine that has much else to do
	deploy("hanging", "--memory", "128", "--timeout", "5s")
	deploy("probing", "--memory", "256", "--timeout", "60s")
	deploy("alone", "--memory", "256", "--timeout", "60s", "--egress", "none")
	deploy("listed", "--memory", "128", "--egress", friend.Addr().String())
	deploy("greedy", "--memory", "128", "--timeout", "60s")
	deploy("endless", "--memory", "128", "--timeout", "5s")
	f.DeployFn("neighbour", "--memory", "128", "--timeout", "60s")
	t.Run("S51", func(t *testing.T) { crashes(t, f) })
	t.Run("S70", func(t *testing.T) { getsNowhere(t, f) })
	t.Run("S71", func(t *testing.T) { limitsHold(t, f) })
	t.Run("egress", func(t *testing.T) { reachesWhatIsListed(t, f, friend.Addr().String()) })
	quiet(t, f)
}

// ask has the hostile function do something, and gives the outcomes.
func ask(t *testing.T, c *client.Client, function string, request any) (map[string]string, *client.Answer) {
	t.Helper()
	b, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	a := invoke(t, c, function, string(b))
	outcomes := map[string]string{}
	if a.FunctionError == nil {
		if err := json.Unmarshal(a.Payload, &outcomes); err != nil {
			t.Fatalf("%s answered %.200s: %v", function, a.Payload, err)
		}
	}
	return outcomes, a
}

// crashes: an environment that ends in a call is replaced, its caller told in Lambda's words, and its binding not used again. That an
// environment runs more calls than one where it does not end is the control.
func crashes(t *testing.T, f *fabric.Fabric) {
	c := f.Anonymous()
	for _, end := range []struct {
		function string
		name     string
		request  map[string]any
		kind     string
		text     string
	}{
		{"crashing", "exits", map[string]any{"end": "exit"}, "Runtime.ExitError", "Runtime exited with error: exit status 9"},
		{"crashing", "is killed", map[string]any{"end": "signal"}, "Runtime.ExitError", "Runtime exited with error: signal: killed"},
		{"hanging", "hangs", map[string]any{"end": "hang"}, "Sandbox.Timedout", "Task timed out after 5.00 seconds"},
		{"hanging", "spins", map[string]any{"end": "spin"}, "Sandbox.Timedout", "Task timed out after 5.00 seconds"},
		{"crashing", "is out of memory", map[string]any{"take": "anonymous", "amount": 1000}, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"},
	} {
		t.Run(end.name, func(t *testing.T) {
			// A call that comes before an environment has asked for its next one may have another made.
			eventually(t, "an environment is used again", func() bool {
				got, _ := ask(t, c, end.function, map[string]any{})
				return got["calls"] != "" && got["calls"] != "1"
			})
			_, a := ask(t, c, end.function, end.request)
			var body struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(a.Payload, &body); err != nil || a.FunctionError == nil {
				t.Fatalf("answered %s, %v", a.Payload, err)
			}
			if body.ErrorType != end.kind || !strings.HasPrefix(body.ErrorMessage, "RequestId: ") || !strings.HasSuffix(body.ErrorMessage, end.text) {
				t.Errorf("answered %s, want %s: %s", a.Payload, end.kind, end.text)
			}
			if _, next := ask(t, c, end.function, map[string]any{}); a.Environment == "" || next.Environment == a.Environment || next.FunctionError != nil {
				t.Errorf("it ended in %q, and the next call was answered %s in %q", a.Environment, next.Payload, next.Environment)
			}
		})
	}
}

// reachesWhatIsListed: a function's egress policy holds from its deployment to its connections, a change of it too, and its log
// tells why something was refused.
func reachesWhatIsListed(t *testing.T, f *fabric.Fabric, friend string) {
	c := f.Anonymous()
	_, port, err := net.SplitHostPort(friend)
	if err != nil {
		t.Fatal(err)
	}
	host := "host.hearth.internal:" + port
	private, server := "10.77.0.1:5432", strings.TrimPrefix(f.NATS, "nats://")
	_, serverPort, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	reach := func(function string, want map[string]string) {
		t.Helper()
		var dial []string
		for to := range want {
			dial = append(dial, to)
		}
		got, a := ask(t, c, function, map[string]any{"dial": dial})
		for to, outcome := range want {
			if got[to] != outcome {
				t.Errorf("%s to %s: %q, want %q; answered %s", function, to, got[to], outcome, a.Payload)
			}
		}
	}
	const refused = "ECONNREFUSED"
	reach("listed", map[string]string{host: guest.Done, private: refused, server: refused, "host.hearth.internal:" + serverPort: refused,
		"db.example.org:5432": "no name"})
	reach("probing", map[string]string{host: "no name", private: refused, server: refused})
	reach("alone", map[string]string{host: "no name", private: "ENETUNREACH"})
	eventually(t, "the log tells why", func() bool {
		text := f.MustCLI("logs", "probing")
		return strings.Contains(text, "egress of probing to "+private+" is refused: private ranges need an explicit CIDR")
	})
	f.MustCLI("deploy", "listed", fabric.Bootstrap(t, "hostile"), "--runtime", "provided", "--egress", "none")
	reach("listed", map[string]string{host: "no name", private: "ENETUNREACH"})
}

// getsNowhere: every probe of package hostile is refused as it says, with the fabric's own processes, files and ports as prey, and
// the Runtime API refuses what a runtime must not ask.
func getsNowhere(t *testing.T, f *fabric.Fabric) {
	c := f.Anonymous()
	planted := filepath.Join(t.TempDir(), "planted")
	if err := os.WriteFile(planted, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	facts := guest.Facts{
		Victim: f.PID(), Folder: f.Data, Planted: planted, Neighbour: "/tmp/full", TCP: strings.TrimPrefix(f.NATS, "nats://"), TCP6: l.Addr().String(),
		LAN: "10.77.0.1:80", LAN6: "[fd77::1]:80", Metadata: "169.254.169.254:80", UDP: "10.77.0.1:53", Abstract: "hearth", Shared: f.PID(), Task: "/var/task",
	}
	// One environment serves all calls of this function: were a second one made, because a call comes before the first asks for it, it
	// would be the one used last, and have all further calls.
	f.MustCLI("limit", "probing", "1")
	defer f.MustCLI("limit", "probing", "--delete")
	got, a := ask(t, c, "probing", map[string]any{"probe": facts})
	probed := a.Environment
	if a.FunctionError != nil {
		t.Fatalf("answered %s", a.Payload)
	}
	none, alone := ask(t, c, "alone", map[string]any{"probe": facts})
	if alone.FunctionError != nil {
		t.Fatalf("answered %s", alone.Payload)
	}
	refused := 0
	for _, p := range guest.Probes() {
		if path, ok := strings.CutPrefix(p.Name, "proc/"); ok && !strings.Contains(path, " ") {
			if _, err := os.Lstat("/proc/" + path); err != nil {
				continue // this kernel has none
			}
		}
		if p.Name == "rights/setuid program" {
			continue // packages hold none
		}
		if outcome, ok := got[p.Name]; !ok || !guest.Met(outcome, p.Public()) {
			t.Errorf("%s: %q, want %s", p.Name, outcome, p.Public())
		}
		if outcome, ok := none[p.Name]; !ok || !guest.Met(outcome, p.Want) {
			t.Errorf("%s, with no network: %q, want %s", p.Name, outcome, p.Want)
		}
		refused++
	}
	if refused < 50 {
		t.Errorf("%d probes", refused)
	}
	again := func(request map[string]any) {
		t.Helper()
		b, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the environment goes on", func() bool {
			if a, err = c.Invoke(withDeadline(t), client.Call{Function: "probing", Payload: b}); schema.CodeOf(err) == schema.CodeThrottled {
				return false // it has answered and not asked for its next call yet
			}
			return true
		})
		if err != nil {
			t.Fatalf("the environment does not go on: %v", err)
		}
		clear(got)
		if a.Environment != probed || json.Unmarshal(a.Payload, &got) != nil {
			t.Fatalf("the environment %s does not go on: %s answers %s", probed, a.Environment, a.Payload)
		}
	}
	again(map[string]any{"api": true})
	for name, want := range map[string]string{
		"next during a call": "403", "answer another call": "400", "fail another call": "400", "announce a gigabyte": "400", "fail the init again": "403",
		"climb": "404", "another method": "404|405", "no HTTP": "400", "two lengths": "400", "a header without end": "431", "another transfer coding": "501",
	} {
		if !guest.Met(got[name], want) {
			t.Errorf("%s: %q, want %s (%s)", name, got[name], want, a.Payload)
		}
	}
	if n, err := strconv.Atoi(got["connections"]); err != nil || n == 0 || n > 16 {
		t.Errorf("%q of 100 connections are served", got["connections"])
	}
	again(map[string]any{})
	if got["calls"] != "3" {
		t.Errorf("the environment goes on as if it were new: %s", a.Payload)
	}
}

// limitsHold: while functions take whatever they can of memory, processes, processor, disk and logs, the environment next to
// them answers every call, and is the same all the time.
func limitsHold(t *testing.T, f *fabric.Fabric) {
	c := f.Anonymous()
	attacks := []struct {
		name    string
		request map[string]any
		want    string // in the answer
	}{ // what has no end of its own goes to a function with a short time-out
		{"memory", map[string]any{"take": "anonymous", "amount": 2000}, "Runtime.OutOfMemory"},
		{"memory of files", map[string]any{"take": "memfd", "amount": 2000}, "Runtime.OutOfMemory"},
		{"shared memory", map[string]any{"take": "sysv", "amount": 2000}, "Runtime.OutOfMemory"},
		{"sockets", map[string]any{"take": "tcp", "amount": 2000}, "EAGAIN|Runtime.OutOfMemory"},
		{"processes without end", map[string]any{"take": "bomb"}, "Sandbox.Timedout|Runtime.OutOfMemory|Runtime.ExitError"},
		{"processor", map[string]any{"end": "spin"}, "Sandbox.Timedout"},
		{"time", map[string]any{"end": "hang"}, "Sandbox.Timedout"},
		{"disk", map[string]any{"take": "tmp", "amount": 2000}, `"tmp":"ENOSPC"`},
		{"descriptors", map[string]any{"take": "descriptors", "amount": 5000}, "EMFILE"},
		{"logs", map[string]any{"flood": 20_000}, `"calls":`},
	}
	var attackers sync.WaitGroup
	over := make(chan struct{})
	problems := make(chan string, len(attacks))
	for _, attack := range attacks {
		b, err := json.Marshal(attack.request)
		if err != nil {
			t.Fatal(err)
		}
		function := "greedy"
		if strings.Contains(attack.want, "Sandbox.Timedout") {
			function = "endless"
		}
		attackers.Go(func() {
			a, err := c.Invoke(withDeadline(t), client.Call{Function: function, Payload: b})
			if err != nil {
				problems <- fmt.Sprintf("%s: %v", attack.name, err)
				return
			}
			for want := range strings.SplitSeq(attack.want, "|") {
				if strings.Contains(string(a.Payload), want) {
					return
				}
			}
			problems <- fmt.Sprintf("%s: answered %.300s, want %s", attack.name, a.Payload, attack.want)
		})
	}
	go func() { // awaited by its channel
		attackers.Wait()
		close(over)
	}()
	calls := 0
	for running := true; running; {
		select {
		case <-over:
			running = false
		default:
		}
		calls++
		if a := invoke(t, c, "neighbour", `"count"`); string(a.Payload) != strconv.Itoa(calls) {
			t.Fatalf("call %d of the neighbour was answered %s", calls, a.Payload)
		}
	}
	close(problems)
	for problem := range problems {
		t.Error(problem)
	}
	t.Logf("%d calls of the neighbour meanwhile", calls)
}

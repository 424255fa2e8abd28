package drivertest

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

// sight: a guest sees the variables it was given and two of the driver, its folder, and no descriptor of ours.
func (s *suite) sight(t *testing.T) {
	e := s.make(t, s.driver(t))
	cmd := s.command(t, "one", "two words", "")
	given := e.variables("A=1", "EMPTY=", "WORDS=two words", "LINES=a\nb", "LANG=tlh")
	cmd.Env = given
	if err := e.Start(t.Context(), cmd, e.output); err != nil {
		t.Fatal(err)
	}
	guest := e.host.Await()
	var rest []string
	for _, v := range guest.Variables {
		if name, _, _ := strings.Cut(v, "="); name != "TMPDIR" && name != "HOME" {
			rest = append(rest, v)
		}
	}
	if got, want := sorted(rest), sorted(given); !slices.Equal(got, want) {
		t.Errorf("variables %q, given %q", got, want)
	}
	if !slices.Equal(guest.Arguments, []string{"one", "two words", ""}) {
		t.Errorf("arguments %q", guest.Arguments)
	}
	if guest.Dir != s.inside {
		t.Errorf("runs in %s instead of %s", guest.Dir, s.inside)
	}
	if guest.Input != 0 {
		t.Errorf("%d bytes on stdin", guest.Input)
	}
	if runtime.GOOS == "linux" && !slices.Equal(guest.Descriptors, []int{0, 1, 2}) {
		t.Errorf("inherited descriptors %v", guest.Descriptors)
	}
}

// user: a worker that is root runs nobody's code as root, and no two environments as one user.
func (s *suite) user(t *testing.T) {
	needs(t, os.Geteuid() == 0, "root")
	d := s.driver(t)
	one, two := s.start(t, s.make(t, d)), s.start(t, s.make(t, d))
	for _, guest := range []*Leash{one, two} {
		if guest.UID == 0 || guest.GID == 0 || slices.Contains(guest.Groups, 0) {
			t.Errorf("runs as uid %d, gid %d, groups %v", guest.UID, guest.GID, guest.Groups)
		}
	}
	if one.UID == two.UID && runtime.GOOS == "linux" {
		t.Errorf("two environments run as uid %d", one.UID)
	}
}

// output: what a process writes arrives whole and before Done, however much, from both streams.
func (s *suite) output(t *testing.T) {
	e := s.make(t, s.driver(t))
	guest := s.start(t, e)
	const much = 1 << 20
	guest.Tell("say out")
	guest.Tell("complain err")
	guest.Tell("fill %d", much)
	guest.Tell("exit 0")
	awaitDone(t, e)
	if got := e.output.String(); !strings.HasPrefix(got, "out\nerr\n") || len(got) != len("out\nerr\n")+much {
		t.Errorf("%d bytes of output, beginning with %.40q", len(got), got)
	}
}

// scratch: the folder for temporary files is writable, nobody else's, and gone at the end.
func (s *suite) scratch(t *testing.T) {
	d := s.driver(t)
	e := s.make(t, d)
	guest := s.start(t, e)
	neighbour := s.make(t, d)
	other := s.start(t, neighbour)
	if guest.Scratch == "" || s.inside == s.folder && guest.Scratch == other.Scratch {
		t.Fatalf("scratch folders %q and %q", guest.Scratch, other.Scratch)
	}
	guest.Tell("write file")
	guest.Tell("say %s", "written")
	for deadline := time.Now().Add(patience); e.output.String() != "written\n"; {
		if time.Now().After(deadline) {
			t.Fatalf("could not write: %q", e.output)
		}
		if d, ok := e.Environment.(driver.Drainer); ok {
			d.Drain()
		}
		runtime.Gosched()
	}
	other.Tell("lacks file")
	other.Tell("exit 0")
	if exit := awaitDone(t, neighbour); exit.Code != 0 {
		t.Fatalf("another environment's folder holds the file too: %q", neighbour.output)
	}
	guest.Tell("exit 0")
	if exit := awaitDone(t, e); exit.Code != 0 {
		t.Fatalf("could not write: %q", e.output)
	}
	if s.inside != s.folder {
		return // it is none of this host's
	}
	if _, err := os.Stat(guest.Scratch); !os.IsNotExist(err) {
		t.Errorf("scratch folder after the end: %v", err)
	}
}

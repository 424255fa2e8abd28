package egress

import (
	"encoding/json"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
)

// controlPair is the socket between a worker and its helper.
func controlPair(t *testing.T) (worker, helper *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*net.UnixConn
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "control")
		c, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ends = append(ends, c.(*net.UnixConn))
	}
	return ends[0], ends[1]
}

// hear reads one message.
func hear[T any](t *testing.T, from *net.UnixConn) (said T) {
	t.Helper()
	b := make([]byte, maxMessage)
	_ = from.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := from.Read(b)
	if err == nil {
		err = json.Unmarshal(b[:n], &said)
	}
	if err != nil {
		t.Fatal(err)
	}
	return said
}

// TestNoDescriptorForADevice: a helper to which the kernel could give no descriptor for a device says so.
func TestNoDescriptorForADevice(t *testing.T) {
	t.Parallel()
	worker, own := controlPair(t)
	h := &helper{control: own, places: map[uint64]*place{}}
	h.obey(order{Attach: &attach{ID: 7}}, nil)
	if r := hear[report](t, worker); r.ID != 7 || !r.End {
		t.Errorf("it says %+v", r)
	}
}

// TestAttachedAgain: an environment whose network a helper had no room for is offered again, and not forgotten.
func TestAttachedAgain(t *testing.T) {
	t.Parallel()
	worker, other := controlPair(t)
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	// Ended already as far as signals go: there is no process.
	h := &process{service: s, control: worker, done: make(chan struct{}), ended: true}
	s.helper = h
	here, there, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	defer there.Close()
	device, err := unix.Dup(int(here.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Attach(device, os.Getpid(), &driver.Network{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := there.WriteString("a packet"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := hear[order](t, other); o.Attach == nil || o.Attach.ID != a.id {
			t.Fatalf("it is told %+v", o)
		}
		s.told(report{ID: a.id, End: true})
	}
	closed := make(chan struct{})
	go func() { // awaited below
		defer close(closed)
		a.Close()
	}()
	<-closed
	close(h.done)
	s.Close()
}

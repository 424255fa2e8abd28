package link_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hearth-run/hearth/internal/link"
	"github.com/hearth-run/hearth/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is what lies between two links: what was published and is not delivered yet.
type wire struct {
	frames [][]byte
	lose   func(frame []byte) bool
}

func (w *wire) publish(b []byte) error {
	if w.lose != nil && w.lose(b) {
		return errors.New("lost") // an error is nothing to a link
	}
	w.frames = append(w.frames, b)
	return nil
}

func (w *wire) deliver(t testing.TB, to *link.Link) (bodies []uint64) {
	t.Helper()
	for len(w.frames) > 0 {
		frame := w.frames[0]
		w.frames = w.frames[1:]
		body, err := to.Receive(frame)
		if err != nil {
			t.Fatal(err)
		}
		if body != nil {
			bodies = append(bodies, binary.BigEndian.Uint64(body))
		}
	}
	return bodies
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// TestLossIsRepaired sends over wires that lose, double and shuffle: everything arrives once and in order.
//
// Broken to see it fail: a gap is taken (had is set to the frame's number): numbers are missing.
func TestLossIsRepaired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		var there, back wire
		bad := func([]byte) bool { return r.IntN(4) == 0 }
		there.lose, back.lose = bad, bad
		a, b := link.New("s", there.publish), link.New("s", back.publish)
		var got []uint64
		const all = 600
		sent := uint64(0)
		for len(got) < all {
			for range r.IntN(8) {
				if sent < all {
					sent++
					if err := a.Send(number(sent)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n := len(there.frames); n > 1 && r.IntN(3) == 0 {
				i := r.IntN(n)
				there.frames = append(there.frames, there.frames[i])
				there.frames[0], there.frames[i] = there.frames[i], there.frames[0]
			}
			got = append(got, there.deliver(t, b)...)
			back.deliver(t, a)
			if r.IntN(10) == 0 {
				time.Sleep(link.Every)
				_ = a.Beat()
				_ = b.Beat()
			}
		}
		for i, n := range got {
			if n != uint64(i)+1 {
				t.Fatalf("the %dth that arrived is %d", i+1, n)
			}
		}
		if a.Resends() == 0 {
			t.Error("nothing was lost")
		}
	})
}

// TestCleanWire: without loss nothing is sent twice, and a side that only hears keeps nothing of its peer waiting.
func TestCleanWire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var there, back wire
		a, b := link.New("s", there.publish), link.New("s", back.publish)
		for n := range uint64(10_000) {
			if err := a.Send(number(n)); err != nil {
				t.Fatal(err)
			}
			if got := there.deliver(t, b); len(got) != 1 || got[0] != n {
				t.Fatalf("%d arrived as %v", n, got)
			}
			back.deliver(t, a)
		}
		if a.Resends() != 0 || b.Resends() != 0 {
			t.Errorf("%d and %d frames were sent again", a.Resends(), b.Resends())
		}
		time.Sleep(time.Second)
		if a.Heard() < time.Second/2 {
			t.Error("a silent peer is heard")
		}
		_ = b.Beat()
		back.deliver(t, a)
		if a.Heard() != 0 {
			t.Error("a beat is not heard")
		}
	})
}

// TestStuck: what stays missing shows, and a peer that acknowledges nothing is not sent to without end.
func TestStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var there, back wire
		there.lose = func(b []byte) bool { // the first frame, as often as it is sent
			var f schema.LinkFrame
			return schema.Unmarshal(b, &f) != nil || f.Number == 1
		}
		a, b := link.New("s", there.publish), link.New("s", back.publish)
		for range 3 {
			if err := a.Send(number(1)); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			time.Sleep(link.Every)
			_ = a.Beat()
			if got := there.deliver(t, b); got != nil {
				t.Fatalf("out of order: %v", got)
			}
			back.deliver(t, a)
		}
		if b.Stuck() < 3*time.Second {
			t.Errorf("stuck for %v", b.Stuck())
		}
		there.lose, back.lose = nil, func([]byte) bool { return true }
		var err error
		for n := 0; err == nil && n < 1<<17; n++ {
			err = a.Send(number(1))
		}
		if !errors.Is(err, link.ErrFull) {
			t.Errorf("sent for ever: %v", err)
		}
	})
}

// TestForeign: what is not of the link changes nothing.
func TestForeign(t *testing.T) {
	t.Parallel()
	var there, back wire
	a, b := link.New("s", there.publish), link.New("s", back.publish)
	for name, f := range map[string]schema.LinkFrame{
		"another session": {V: 1, Session: "t", Number: 1, Last: 1, Body: []byte("x")},
		"no version":      {Session: "s", Number: 1, Last: 1},
		"an ack ahead":    {V: 1, Session: "s", Ack: 1},
		"a number ahead":  {V: 1, Session: "s", Number: 2, Last: 1},
	} {
		frame, err := schema.Marshal(f)
		if name == "no version" {
			frame, err = []byte{0x81, 0xa1, 's', 0xa1, 's'}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if body, err := b.Receive(frame); !errors.Is(err, link.ErrForeign) || body != nil {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	if err := a.Send(number(7)); err != nil {
		t.Fatal(err)
	}
	if got := there.deliver(t, b); len(got) != 1 || got[0] != 7 {
		t.Errorf("after that: %v", got)
	}
}

func FuzzReceive(f *testing.F) {
	for _, frame := range []schema.LinkFrame{{V: 1, Session: "s", Number: 1, Last: 1, Body: []byte{1}}, {V: 1, Session: "s", Last: 9, Ack: 1, Again: true}} {
		b, err := schema.Marshal(frame)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var out wire
		l := link.New("s", out.publish)
		if err := l.Send([]byte("one")); err != nil {
			t.Fatal(err)
		}
		if body, err := l.Receive(b); body != nil && err != nil {
			t.Fatalf("%q and %v", body, err)
		}
		for _, frame := range out.frames {
			if err := schema.Unmarshal(frame, new(schema.LinkFrame)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

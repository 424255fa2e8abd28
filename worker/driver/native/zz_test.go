//go:build linux && (amd64 || arm64)

package native

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hearth-run/hearth/worker/driver"
)

func TestZZ(t *testing.T) {
	if os.Getenv("ZZ") == "" {
		t.Skip()
	}
	d, _ := New(Config{Dir: t.TempDir() + "/x"})
	if err := d.prepare(); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := map[string][]time.Duration{}
	var last time.Time
	lap := func(n string) { m[n] = append(m[n], time.Since(last)); last = time.Now() }
	for range 60 {
		last = time.Now()
		g, _ := d.cgroups.make("zz")
		lap("cg-make")
		g.joined()
		g.limit(limitsFor(128))
		lap("cg-limit")
		g.remove()
		lap("cg-remove")
		s, err := d.build(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		lap("build")
		s.group.limit(limitsFor(128))
		lap("limit")
		e := &Environment{driver: d, id: "x", memory: 128 << 20, sandbox: s, done: make(chan struct{})}
		d.add(e)
		if err := e.Start(context.Background(), driver.Command{Path: "/bin/sleep", Args: []string{"100"}, Dir: "/tmp"}, io.Discard); err != nil {
			t.Fatal(err)
		}
		lap("start")
		e.Kill()
		<-s.ended
		lap("kill-ended")
		<-e.done
		lap("free")
	}
	for n, v := range m {
		slices.Sort(v)
		fmt.Printf("%-12s p50 %v p90 %v\n", n, v[len(v)/2], v[len(v)*9/10])
	}
}

// Package pipe reads what the processes of an environment write.
package pipe

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// size is what a pipe holds, unless its function made it larger.
const size = 64 << 10

// Output is what an environment's processes write. Two read it: Copy, on a goroutine of its own, all the time, and Drain,
// who must know that everything of a moment has arrived. A read and the write of what it gave are one step under mu, so
// that nothing is on its way when Drain has found the pipe empty. That costs a call one read that gives nothing.
type Output struct {
	pipe  syscall.RawConn
	empty func(fd uintptr) // Drain's, made once: a call allocates nothing

	mu  sync.Mutex
	to  io.Writer
	buf [32 << 10]byte
}

// New reads a pipe, whose owner remains the caller, and writes what it gave to a writer that must not block for ever.
func New(read *os.File, to io.Writer) *Output {
	pipe, err := read.SyscallConn()
	if err != nil {
		panic(fmt.Sprintf("pipe: an open pipe is no file: %v", err))
	}
	o := &Output{pipe: pipe, to: to}
	o.empty = func(fd uintptr) {
		for left := size; left > 0; {
			n, err := o.take(fd, left)
			if err != nil || n == 0 {
				return
			}
			left -= n
		}
	}
	return o
}

// Copy reads until the pipe ends, is closed or meets its deadline.
func (o *Output) Copy() {
	for {
		n, err := 0, error(nil)
		over := o.pipe.Read(func(fd uintptr) bool {
			n, err = o.take(fd, len(o.buf))
			return err != syscall.EAGAIN
		})
		if over != nil || err != nil || n == 0 {
			return
		}
	}
}

// Drain gives the writer what the processes have written until now, at most what a pipe holds. It never waits for more.
func (o *Output) Drain() {
	_ = o.pipe.Control(o.empty) // not Read, which would wait for copy to be done
}

// take reads once, without waiting, and passes on what it got. A writer that fails must not stop the function: what it
// says from then on is read and dropped.
func (o *Output) take(fd uintptr, most int) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := syscall.Read(int(fd), o.buf[:min(most, len(o.buf))])
		if err == syscall.EINTR {
			continue
		}
		if n > 0 {
			_, _ = o.to.Write(o.buf[:n])
		}
		return max(n, 0), err
	}
}

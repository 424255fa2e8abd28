package process

import "runtime"

// spawner forks all environments from one thread that lives as long as the driver: the kernel's parent-death signal is
// sent when the thread ends that forked, not when the process does (golang/go#27505). What is set on that thread alone,
// such as no_new_privs, its children inherit.
type spawner struct {
	requests chan func()
}

// run serves requests until they are closed.
func (s *spawner) run() {
	// Never unlocked: the thread ends with this goroutine and is not given to another one with what is set on it.
	runtime.LockOSThread()
	prepareThread()
	for f := range s.requests {
		f()
	}
}

// do runs f on the thread and waits for it.
func (s *spawner) do(f func()) {
	done := make(chan struct{})
	s.requests <- func() {
		defer close(done)
		f()
	}
	<-done
}

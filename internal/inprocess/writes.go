package inprocess

import "sync"

// Writes tells when a connection is written to, over all its reconnects. The zero value is ready; it is safe for concurrent use.
type Writes struct {
	mu   sync.Mutex
	next chan struct{} // nil: nobody waits
}

// Next is closed once the connection has been written to, or was closed, after this call.
func (w *Writes) Next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == nil {
		w.next = make(chan struct{})
	}
	return w.next
}

// wrote wakes who waits.
func (w *Writes) wrote() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next != nil {
		close(w.next)
		w.next = nil
	}
}

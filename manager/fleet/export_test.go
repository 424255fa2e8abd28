package fleet

import "time"

// Relearn makes a manager's fleet one that has so long yet to learn what its workers run, and tells until when it had.
func Relearn(f *Fleet, within time.Duration) (was time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	was, f.relearned = f.relearned, time.Now().Add(within)
	return was
}

package manager

import (
	"errors"
	"testing"
	"time"

	"github.com/hearth-run/hearth/schema"
)

// Whoever is refused for growth is told to come again within the window, though the manager that began it may know the clock better.
func TestGrownTellsAWindow(t *testing.T) {
	t.Parallel()
	p := &permits{m: &Manager{born: time.Now()}}
	for ago, want := range map[time.Duration]time.Duration{-time.Minute: growthEvery, time.Hour: time.Second} {
		var err *schema.Error
		if !errors.As(p.grown("f", 6, time.Now().Add(-ago)), &err) || err.Retry != want {
			t.Errorf("began %v ago: %+v, want to come again in %v", ago, err, want)
		}
	}
}

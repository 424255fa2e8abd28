//go:build !linux

package process

import "runtime"

// privileged cannot tell more than the uid says, which the caller has compared.
func privileged() (bool, error) { return false, nil }

func platformNotes(drops bool) []string {
	if drops {
		return nil
	}
	return []string{"on " + runtime.GOOS + " a function that leaves its session can outlive its environment"}
}

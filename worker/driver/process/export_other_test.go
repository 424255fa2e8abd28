//go:build !linux

package process

// MayLimit tells that limits are not set here.
func MayLimit() (bool, error) { return false, nil }

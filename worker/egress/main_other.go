//go:build !linux

package egress

// Main does nothing: there is no helper where there are no sandboxes.
func Main() {}

//go:build !linux

package drivertest

// defaultAction leaves the signal to the Go runtime, which ends the process by it if it is one that ends programs.
func defaultAction(int) {}

//go:build !linux || !(amd64 || arm64)

package worker_test

// otherwise is what else the test binary becomes: nothing here.
func otherwise() {}

//go:build !linux

package schema_test

import "errors"

func memoryLimitMissing() string {
	return "only Linux limits the memory that a process maps (RLIMIT_DATA)"
}

func limitMemory(uint64) error { return errors.New(memoryLimitMissing()) }

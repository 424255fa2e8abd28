package schema_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryLimitMissing is why this build cannot limit its memory, "" if it can.
func memoryLimitMissing() string { return raceMemory }

// limitMemory lets this process use so many bytes of data more than it has now. RLIMIT_DATA counts what is mapped writable
// and private, so the address space that Go only reserves does not count.
func limitMemory(more uint64) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("read own memory: %w", err)
	}
	_, after, _ := strings.Cut(string(status), "VmData:")
	line, _, _ := strings.Cut(after, " kB")
	now, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err != nil {
		return fmt.Errorf("read VmData: %w", err)
	}
	limit := now<<10 + more
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit})
}

package deploy

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// freeMemory is how many bytes this process may still use without swapping: what the kernel calls available, or less where
// a cgroup allows less. 0 means that it is not known.
func freeMemory() int64 {
	free := available()
	for _, c := range []struct{ limit, used string }{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"}, // v2, in a container of its own
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
	} {
		limit, ok1 := number(c.limit)
		used, ok2 := number(c.used)
		if ok1 && ok2 && limit > used && (free == 0 || limit-used < free) {
			free = limit - used
		}
	}
	return free
}

func available() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == "MemAvailable:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

// number reads a file of one number; "max" is none.
func number(path string) (int64, bool) {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return v, err == nil
}

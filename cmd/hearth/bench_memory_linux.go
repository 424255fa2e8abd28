package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// memoryOf is the resident memory of a process, in bytes.
func memoryOf(pid int) (int64, bool) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, false
	}
	field := bytes.Fields(content) // pages: the whole, what is resident, ...
	if len(field) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(field[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}

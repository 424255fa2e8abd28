package main

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuOf is the CPU time of a process, user and system, to the nanosecond: its CPU clock (clock_getcpuclockid(3)), which
// any process may read. /proc counts in ticks of 10 ms, as long as a whole slice of a loop of one.
func cpuOf(pid int) (time.Duration, bool) {
	const perProcessSched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcessSched), &ts); err != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}

// descendants are the processes below pid: those of functions and what keeps them.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// "pid (name) state ppid ...": the name may hold anything, so look behind its end.
		field := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(field) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(field[1])); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		all = append(all, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

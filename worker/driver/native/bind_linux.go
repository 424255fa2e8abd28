//go:build amd64 || arm64

package native

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver"
)

// Limits of a process that no cgroup counts (SECURITY 3), as Lambda has them where it has some.
const (
	maxFiles     = 1024
	maxProcesses = 1024  // threads too
	maxInodes    = 65536 // of /tmp and of /dev/shm
	maxCore      = 1     // byte; 0 would still start a core handler behind a pipe
	maxSignals   = 4096  // that are pending; timers count
	maxLocked    = 64 << 10
	maxQueues    = 800 << 10 // bytes of message queues
)

var resources = []struct {
	resource int
	most     uint64
}{
	{unix.RLIMIT_NOFILE, maxFiles}, {unix.RLIMIT_CORE, maxCore}, {unix.RLIMIT_SIGPENDING, maxSignals},
	{unix.RLIMIT_MEMLOCK, maxLocked}, {unix.RLIMIT_MSGQUEUE, maxQueues}, {unix.RLIMIT_NICE, 0}, {unix.RLIMIT_RTPRIO, 0},
}

// Names of steps whose failure is the command's own.
const (
	stepChdir = "chdir"
	stepExec  = "execute"
)

// stepFilter is where the filter is installed.
const stepFilter = "filter system calls"

// binding is what a sandbox is told once.
type binding struct {
	uid     uint32
	tmp     int64 // bytes of /tmp
	task    bool  // a tree for /var/task comes along
	runtime bool  // one for /var/runtime too
	alone   bool  // it reaches nothing, though it has a tap
	command driver.Command
}

// newLetter is the script that makes an empty sandbox one of a function.
func newLetter(prog *program, b binding) *script {
	s := &script{base: letterBase, first: len(prog.first.steps), left: prog.first.left}
	if b.task {
		s.do("mount the code", unix.SYS_MOVE_MOUNT, taskFD, "", unix.AT_FDCWD, taskDir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if b.runtime {
		fd := runtimeFD
		if !b.task {
			fd = taskFD
		}
		s.do("mount the runtime", unix.SYS_MOVE_MOUNT, fd, "", unix.AT_FDCWD, runtimeDir, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if b.alone {
		free := taskFD
		for _, there := range []bool{b.task, b.runtime} {
			if there {
				free++
			}
		}
		disconnect(s, free, prog.six, &label{fixed: prog.wrong})
	}
	const flags = unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV
	s.do("size of /tmp", unix.SYS_MOUNT, nil, "/tmp", nil, flags, fmt.Sprintf("size=%d", b.tmp))
	// Both count as memory, and both full must leave some.
	s.do("size of /dev/shm", unix.SYS_MOUNT, nil, "/dev/shm", nil, flags|unix.MS_NOEXEC, fmt.Sprintf("size=%d", b.tmp/4))
	s.do("fork", unix.SYS_CLONE, int(unix.SIGCHLD), 0, 0, 0, 0).unless(0, &label{fixed: prog.tail})

	s.do("lead a session", unix.SYS_SETSID)
	s.do("output", unix.SYS_DUP3, outputFD, 1, 0)
	s.do("output", unix.SYS_DUP3, outputFD, 2, 0)
	for _, r := range resources {
		limit := binary.NativeEndian.AppendUint64(nil, r.most)
		s.do("limit a resource", unix.SYS_PRLIMIT64, 0, r.resource, s.bytes(binary.NativeEndian.AppendUint64(limit, r.most)), nil)
	}
	giveUp(s, int(b.uid), prog.zero, prog.caps)
	// As its user: what that one may not enter it must not start in.
	s.do(stepChdir, unix.SYS_CHDIR, taskDir)
	s.do("restrict by landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, rulesetFD, 0)
	// The control socket stays until the command is executed, to tell if that fails.
	s.do("close", unix.SYS_CLOSE_RANGE, rulesetFD, int(^uint32(0)), 0)
	s.do(stepFilter, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, prog.bpf)
	execute(s, b.command)
	return s
}

// A program that was unpacked a moment ago can be busy: a process that the worker forked meanwhile has it open for writing
// until it executes (golang/go#22315). That takes milliseconds.
const (
	busyTries = 7
	busyFirst = time.Millisecond
)

func execute(s *script, cmd driver.Command) {
	texts := func(list []string) ptr {
		var words []any
		for _, text := range list {
			words = append(words, s.text(text))
		}
		return s.table(append(words, 0)...)
	}
	path := s.text(cmd.Path)
	argv, envp := texts(append([]string{cmd.Path}, cmd.Args...)), texts(cmd.Env)
	for i := range busyTries {
		s.do(stepExec, unix.SYS_EXECVE, path, argv, envp).tolerate = unix.ETXTBSY
		s.do("wait", unix.SYS_NANOSLEEP, s.table(0, int(busyFirst<<i)), nil)
	}
	s.do(stepExec, unix.SYS_EXECVE, path, argv, envp)
}

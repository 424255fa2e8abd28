//go:build amd64 || arm64

package native

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// proofBytes is what the proof leaves in a socket: more than fits into what no limit counts.
const proofBytes = 256 << 10

// prove builds a sandbox and does in it what a function must be kept from, so that a host whose kernel lacks a protection, or
// counts no socket memory, is found before anybody's code runs (SECURITY 3).
func (d *Driver) prove(ctx context.Context) error {
	s, err := d.stock.take(ctx)
	if err != nil {
		return err
	}
	defer d.discard(s)
	l := limitsFor(leastMemory)
	if err := s.group.limit(l); err != nil {
		return err
	}
	switch said, err := s.bind(ctx, newProof(d.program, d.users.First), nil); {
	case err != nil:
		return err
	case said != proven:
		return errors.New("a sandbox ended at its proof")
	}
	charged, err := s.group.sockets()
	if err != nil {
		return fmt.Errorf("read what sockets are charged with: %w", err)
	}
	if charged < proofBytes/4 {
		return errors.New("the kernel does not charge a cgroup for what its sockets hold, so that a function could fill this host's memory: " +
			"boot without cgroup.memory=nosocket")
	}
	return nil
}

// newProof is a letter that fills a socket, gives up all rights, and fails unless the filter refuses a namespace. It ends by
// waiting: the worker looks at what it holds meanwhile.
func newProof(prog *program, uid uint32) *script {
	s := &script{base: letterBase, first: len(prog.first.steps)}
	const fd = outputFD // the lowest free one
	address := binary.NativeEndian.AppendUint16(nil, unix.AF_INET)
	address = binary.BigEndian.AppendUint16(address, port)
	address = append(address, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
	s.do("open a socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0)
	s.do("connect to the Runtime API", unix.SYS_CONNECT, fd, s.bytes(address), len(address))
	for range 8 {
		s.do("fill a socket", unix.SYS_SENDTO, fd, uintptr(letterBase), proofBytes/8, unix.MSG_DONTWAIT, nil, 0).tolerate = unix.EAGAIN
	}
	giveUp(s, int(uid), prog.zero, prog.caps)
	s.do("restrict by landlock", unix.SYS_LANDLOCK_RESTRICT_SELF, rulesetFD, 0)
	s.do(stepFilter, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, prog.bpf)
	wrong := &label{}
	// A success goes on at what is wrong then.
	try := s.do("make a namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	try.tolerate, try.expect, try.jump = unix.EPERM, -1, wrong
	s.do("tell", unix.SYS_WRITE, controlFD, proven, len(proven))
	oob := s.table(0, 0, s.table(s.bytes(make([]byte, 8)), 8), 1, 0, 0, 0)
	s.do("wait", unix.SYS_RECVMSG, controlFD, oob, 0)
	s.do("end", unix.SYS_EXIT_GROUP, 0)
	wrong.at = len(s.steps)
	s.do("system calls are not filtered", unix.SYS_CLOSE, -1)
	return s
}

// proven is what the proof says at its end.
const proven = "proven"

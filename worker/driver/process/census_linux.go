package process

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-run/hearth/worker/driver/uids"
)

// takeCensus reads /proc once: all living processes that could belong to an environment whose scratch folder lies in base.
// As root those are the ones with uids of environments, otherwise this user's.
func takeCensus(base string) ([]resident, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	self := uint32(os.Geteuid())
	var found []resident
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The folder of a process belongs to its effective uid, also of one that hides the rest of itself.
		var stat syscall.Stat_t
		if syscall.Stat("/proc/"+name, &stat) != nil || !uids.In(stat.Uid) && (self == 0 || stat.Uid != self) {
			continue
		}
		r := resident{pid: pid, uid: stat.Uid}
		if !r.readStat() {
			continue
		}
		if !uids.In(r.uid) {
			r.readMark(base)
		}
		found = append(found, r)
	}
	return found, nil
}

// readStat reads group and session (proc(5), fields 3, 5, 6); false if the process lives no more.
func (r *resident) readStat() bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(r.pid) + "/stat")
	if err != nil {
		return false
	}
	// The name stands in parentheses and may hold any of them.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	r.group, _ = strconv.Atoi(fields[2])
	r.session, _ = strconv.Atoi(fields[3])
	return true
}

// readMark finds the scratch folder that a process was started with among its variables.
func (r *resident) readMark(base string) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(r.pid) + "/environ")
	if err != nil {
		return
	}
	if _, after, ok := bytes.Cut(b, []byte("="+base+string(filepath.Separator))); ok {
		end := bytes.IndexAny(after, "\x00/")
		if end < 0 {
			end = len(after)
		}
		r.scratch = string(after[:end])
	}
}

// kill ends the resident, unless its number has been given to another process since.
func (r *resident) kill() {
	fd, err := unix.PidfdOpen(r.pid, 0)
	if errors.Is(err, unix.ENOSYS) {
		_ = syscall.Kill(r.pid, syscall.SIGKILL)
		return
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var stat syscall.Stat_t
	if syscall.Stat("/proc/"+strconv.Itoa(r.pid), &stat) == nil && stat.Uid == r.uid {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

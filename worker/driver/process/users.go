package process

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// uids of environments (SECURITY 3). A block is what one driver reserves: it bounds its environments.
const (
	firstUID  = 1_900_000_000
	rangeSize = 1 << 20
	blockSize = 4096
)

func inRange(uid uint32) bool { return uid >= firstUID && uid < firstUID+rangeSize }

// users hands out the uids of one block, each again only when all others have been used. Safe for concurrent use.
type users struct {
	first uint32
	lock  *os.File // held by worker and keeper, so the block is free when both are gone

	mu    sync.Mutex
	next  uint32   // never used from here
	given []uint32 // back, longest ago first
}

// claimUsers reserves a block that no other driver of this host has, beginning at a random one: so a uid is seldom used
// again soon, also over restarts.
func claimUsers(dir string) (*users, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("reserve uids: %w", err)
	}
	const blocks = rangeSize / blockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		block := (start + i) % blocks
		lock, err := lockFile(filepath.Join(dir, "uids-"+strconv.Itoa(block)))
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve uids: %w", err)
		}
		first := uint32(firstUID + block*blockSize)
		return &users{first: first, next: first, lock: lock}, nil
	}
	return nil, fmt.Errorf("reserve uids: all %d blocks of this host are in use", blocks)
}

// lockFile opens a file or folder and locks it, or fails with EWOULDBLOCK at once.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, syscall.EISDIR) {
		file, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return file, nil
}

// take gives a uid that no process of this host has.
func (u *users) take() (uint32, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.next < u.first+blockSize {
		u.next++
		return u.next - 1, nil
	}
	if len(u.given) == 0 {
		return 0, fmt.Errorf("all %d uids of this worker are in use", blockSize)
	}
	uid := u.given[0]
	u.given = u.given[1:]
	return uid, nil
}

// give takes a uid back under which nothing lives any more.
func (u *users) give(uid uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.given = append(u.given, uid)
}

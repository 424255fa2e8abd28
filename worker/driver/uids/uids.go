// Package uids hands out the users that environments run as: from a high range of their own (SECURITY 3), in blocks that the
// drivers of a host reserve by file locks, so that no two environments of a host ever are one user at the same time.
package uids

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

// The range (SECURITY 3). A block is what one driver reserves: it bounds its environments.
const (
	First     = 1_900_000_000
	Size      = 1 << 20
	BlockSize = 4096
)

// In tells whether a uid is one of environments.
func In(uid uint32) bool { return uid >= First && uid < First+Size }

// Block is the uids of one driver, each given again only when all others have been used. Safe for concurrent use.
type Block struct {
	Number int
	First  uint32
	Lock   *os.File // whoever has it open keeps the block: the worker, and a keeper that outlives it

	mu    sync.Mutex
	next  uint32   // never used from here
	given []uint32 // back, longest ago first
}

// Claim reserves a block that no other driver of this host has, beginning at a random one: so a uid is seldom used again
// soon, also over restarts. dir holds the locks; "" means [DefaultLocks].
func Claim(dir string) (*Block, error) {
	if dir == "" {
		dir = DefaultLocks
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("reserve uids: %w", err)
	}
	const blocks = Size / BlockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		number := (start + i) % blocks
		lock, err := LockBlock(dir, number)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reserve uids: %w", err)
		}
		first := uint32(First + number*BlockSize)
		return &Block{Number: number, First: first, next: first, Lock: lock}, nil
	}
	return nil, fmt.Errorf("reserve uids: all %d blocks of this host are in use", blocks)
}

// LockBlock takes the lock of a block, or fails with EWOULDBLOCK at once while a driver lives that has it.
func LockBlock(dir string, number int) (*os.File, error) {
	return Lock(filepath.Join(dir, "uids-"+strconv.Itoa(number)))
}

// Lock opens a file (it is made if need be) or folder and locks it, or fails with EWOULDBLOCK at once.
func Lock(path string) (*os.File, error) {
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

// Take gives a uid that no process of this host has.
func (b *Block) Take() (uint32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next < b.First+BlockSize {
		b.next++
		return b.next - 1, nil
	}
	if len(b.given) == 0 {
		return 0, fmt.Errorf("all %d uids of this worker are in use", BlockSize)
	}
	uid := b.given[0]
	b.given = b.given[1:]
	return uid, nil
}

// Taken is how many uids were taken and not given back.
func (b *Block) Taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(b.next-b.First) - len(b.given)
}

// Give takes a uid back under which nothing lives any more.
func (b *Block) Give(uid uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given = append(b.given, uid)
}

package deploy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"
)

// folder is the data folder, held by this process.
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the folder if need be and takes it, or says who has it.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.Chmod(abs, 0o700); err != nil {
		return nil, fmt.Errorf("close the data folder to others: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(abs, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data folder: %w", err)
	}
	if err := lockFile(lock); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(lock, 32))
		_ = lock.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("data folder %s: process %s runs on it; stop that one, or choose another folder with --data",
				abs, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock the data folder %s: %w", abs, err)
	}
	if err := lock.Truncate(0); err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("write the lock of the data folder: %w", err)
		}
	}
	return &folder{abs, lock}, nil
}

// release lets another process have the folder.
func (f *folder) release() error { return f.lock.Close() }

// adminKey reads or makes the admin's nkey; the file is what client commands use.
func (f *folder) adminKey() (key nkeys.KeyPair, file string, err error) {
	file = filepath.Join(f.path, "admin.nk")
	seed, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if key, err = nkeys.CreateUser(); err != nil {
			return nil, "", fmt.Errorf("make the admin's key: %w", err)
		}
		if seed, err = key.Seed(); err != nil {
			return nil, "", fmt.Errorf("make the admin's key: %w", err)
		}
		if err := os.WriteFile(file, append(seed, '\n'), 0o600); err != nil {
			return nil, "", fmt.Errorf("keep the admin's key: %w", err)
		}
		return key, file, nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read the admin's key: %w", err)
	}
	key, err = nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, "", fmt.Errorf("%s is no nkey seed (%w); move it away, and a new one is made", file, err)
	}
	return key, file, nil
}

// cacheDir is where unpacked code and scratch folders of functions lie. Root runs functions under users of their own,
// who must reach them and must not enter the data folder.
func (f *folder) cacheDir() (string, error) {
	if os.Geteuid() != 0 {
		return filepath.Join(f.path, "cache"), nil
	}
	base := "/var/lib/hearth"
	if runtime.GOOS == "darwin" {
		base = "/var/db/hearth"
	}
	sum := sha256.Sum256([]byte(f.path))
	dir := filepath.Join(base, hex.EncodeToString(sum[:8]))
	for _, d := range []string{base, dir} {
		if err := os.Mkdir(d, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
			return "", fmt.Errorf("make the folder of unpacked code: %w", err)
		}
		info, err := os.Lstat(d)
		if err != nil {
			return "", fmt.Errorf("look at the folder of unpacked code: %w", err)
		}
		if !info.IsDir() || !ours(info) {
			return "", fmt.Errorf("%s is not a folder of this user; move it away", d)
		}
		if err := os.Chmod(d, 0o711); err != nil {
			return "", fmt.Errorf("open the folder of unpacked code to functions: %w", err)
		}
	}
	return dir, nil
}

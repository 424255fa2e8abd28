package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hearth-run/hearth/worker/driver"
)

// reachable tells by its error which folder keeps a uid that owns nothing from reading path.
func reachable(path string, uid uint32) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if !enters(info, uid) {
			return fmt.Errorf("functions run as uid %d, which cannot enter %s (mode %04o): put %s where others may pass (0711), or open it",
				uid, at, info.Mode().Perm(), path)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// enters tells whether a uid may pass through a folder, or run a file.
func enters(info fs.FileInfo, uid uint32) bool {
	bit := fs.FileMode(0o001)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case stat.Uid == uid:
			bit = 0o100
		case stat.Gid == uid:
			bit = 0o010
		}
	}
	return info.Mode().Perm()&bit != 0
}

// explain gives a failed fork the form that os/exec gives it, and says what stands in the way where that can be found out.
func explain(err error, cmd driver.Command, uid uint32) error {
	failed := &os.PathError{Op: "fork/exec", Path: cmd.Path, Err: err}
	if _, dirErr := os.Stat(cmd.Dir); cmd.Dir != "" && errors.Is(dirErr, fs.ErrNotExist) {
		failed.Op, failed.Path = "chdir", cmd.Dir
		return failed
	}
	if uid == 0 || !errors.Is(err, fs.ErrPermission) {
		return failed
	}
	for _, path := range []string{cmd.Dir, cmd.Path} {
		if path == "" {
			continue
		}
		if why := reachable(path, uid); why != nil {
			return fmt.Errorf("%w: %w", failed, why)
		}
	}
	return failed
}

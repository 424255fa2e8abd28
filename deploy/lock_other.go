//go:build !unix

package deploy

import (
	"errors"
	"os"
)

// tryLock refuses: without a lock that ends with its process, two fabrics could write one data folder.
func tryLock(*os.File) error {
	return errors.New("a data folder needs file locks of a Unix system")
}

func unlock(*os.File) error { return nil }

//go:build unix

package jetstream

import (
	"os"
	"syscall"
)

// lockFile takes an exclusive lock on an open file; it goes with the file.
func lockFile(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

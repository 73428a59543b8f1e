package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

// Files of a state directory. The first two have a dot, which no token has, so
// no instance's directory can meet them.
const (
	lockFile   = ".lock"
	fenceFile  = ".leader" // the newest leader's term
	recordFile = "record.json"
	stdoutFile = "stdout"
	stderrFile = "stderr"
	temporary  = ".tmp" // added to the name of a file that is being written
)

const (
	// lockPatience is how long it is waited for the lock of an agent that was killed:
	// a child that it had just forked holds it until it executes its program.
	lockPatience = time.Second
	lockPause    = 20 * time.Millisecond
)

// maxHomeName is the longest token used as a directory's name as it is, in
// bytes; file systems allow 255.
const maxHomeName = 200

// ErrLocked is returned when another agent serves the state directory.
var ErrLocked = errors.New("agent: another agent serves this state directory")

// directory is an agent's state on disk: a home for each instance, with its
// record and its output. An instance's goroutine uses its own home only.
type directory struct {
	path string // absolute
	lock *os.File
}

// openDirectory creates and locks a state directory. The lock is the
// kernel's: it goes with the process, and with what the process was just about
// to execute, for which it is waited.
func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &directory{path: path, lock: lock}, nil
}

func (d *directory) close() { d.lock.Close() }

// home is the directory of one instance.
func (d *directory) home(id string) string {
	name := events.Token(id)
	if len(name) > maxHomeName {
		sum := sha256.Sum256([]byte(name))
		name = "~" + hex.EncodeToString(sum[:]) // "~" is in no token
	}
	return filepath.Join(d.path, name)
}

// records reads all records. A home without one is of a launch that was never
// begun; it goes, and nothing that is not the agent's goes with it.
func (d *directory) records() ([]record, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	var records []record
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		home := filepath.Join(d.path, e.Name())
		data, err := os.ReadFile(filepath.Join(home, recordFile))
		if errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(filepath.Join(home, recordFile+temporary))
			_ = os.Remove(home)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		var rec record
		if err := json.Unmarshal(data, &rec); err != nil {
			return nil, fmt.Errorf("agent: read %s: %w", filepath.Join(home, recordFile), err)
		}
		records = append(records, rec)
	}
	return records, nil
}

// save writes a record so that a crash leaves the old one or the new one.
func (d *directory) save(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	home := d.home(rec.NodeID)
	switch err := os.Mkdir(home, 0o700); {
	case err == nil:
		if err := syncDirectory(d.path); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	return writeDurably(filepath.Join(home, recordFile), data)
}

// strip removes everything but the record from an instance's home.
func (d *directory) strip(id string) error {
	home := d.home(id)
	entries, err := os.ReadDir(home)
	for _, e := range entries {
		if e.Name() != recordFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(home, e.Name())))
		}
	}
	return err
}

func (d *directory) remove(id string) error { return os.RemoveAll(d.home(id)) }

// writeDurably replaces a file, whole or not at all, and on disk when it
// returns.
func writeDurably(path string, data []byte) error {
	tmp := path + temporary
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

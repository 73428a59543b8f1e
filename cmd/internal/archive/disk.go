package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-524e47bf/epum/events"
)

// disk is the directory of an archive that is being written. What it writes is either
// there as a whole, and stays so through a power cut, or not at all.
type disk struct {
	dir  string
	lock *os.File
	step func(string) error // called before every change, by what it does; its error ends all; nil: nothing
}

// openDisk creates and locks a directory. The lock is the kernel's: it goes with the
// process.
func openDisk(dir string, step func(string) error) (*disk, error) {
	if step == nil {
		step = func(string) error { return nil }
	}
	d := &disk{dir: filepath.Clean(dir), step: step}
	if err := d.make(d.dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("archive: lock %s: %w", dir, err)
	}
	d.lock = lock
	return d, nil
}

// make creates a directory where there is none, and those above it that are missing,
// each on the disk for good before the next one is made in it. So of what an interrupted
// archive has made at most the lowest is not; it is what is there now.
func (d *disk) make(dir string) error {
	parent := filepath.Dir(dir)
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		_ = syncDir(parent) // whoever made it, it may be one that nobody here can sync
		return nil
	}
	if missing(err) && parent != dir {
		if err := d.make(parent); err != nil {
			return err
		}
	}
	err = d.change("make", func() error {
		if err := os.Mkdir(dir, 0o750); !errors.Is(err, fs.ErrExist) { // as where another one was faster
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = d.change("sync-parent", func() error { return syncDir(parent) })
	if errors.Is(err, fs.ErrPermission) {
		return nil // as above
	}
	return err
}

func (d *disk) close() { d.lock.Close() }

// tidy removes what an interrupted archive has left: what is half written, and files
// of events behind the last one that the manifest names. It touches nothing else.
func (d *disk) tidy(m *Manifest) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	behind := nameOf(m.Last()+1, 0) // names sort as their sequences do
	for _, e := range entries {
		name, half := strings.CutSuffix(e.Name(), temporary)
		if half && (name == manifestName || fileName.MatchString(name)) || fileName.MatchString(e.Name()) && e.Name() >= behind {
			if err := d.change("remove", func() error { return os.Remove(filepath.Join(d.dir, e.Name())) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// unnamed returns an error where there are files of events: without their manifest
// nobody can tell whether the log has these events still.
func (d *disk) unnamed() error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	for _, e := range entries {
		if fileName.MatchString(e.Name()) {
			return fmt.Errorf("%w: %s has files of events, as %s, and no %s; bring it back from a copy", ErrDamaged, d.dir, e.Name(), manifestName)
		}
	}
	return nil
}

// change makes one change of the directory.
func (d *disk) change(what string, do func() error) error {
	err := d.step(what)
	if err == nil {
		err = do()
	}
	if err != nil {
		return fmt.Errorf("archive: %s in %s: %w", what, d.dir, err)
	}
	return nil
}

// pending is a file that is being written, under a name of its own.
type pending struct {
	disk *disk
	file *os.File
	path string
	sum  hash.Hash
	size int64
}

func (d *disk) create(name string) (p *pending, err error) {
	p = &pending{disk: d, path: filepath.Join(d.dir, name+temporary), sum: sha256.New()}
	err = d.change("create", func() (err error) {
		p.file, err = os.OpenFile(p.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
		return err
	})
	return p, err
}

// Write implements io.Writer.
func (p *pending) Write(data []byte) (n int, err error) {
	err = p.disk.change("write", func() error {
		n, err = p.file.Write(data)
		return err
	})
	p.sum.Write(data[:n])
	p.size += int64(n)
	return n, err
}

// commit gives the file its name, once all of it is on the disk.
func (p *pending) commit(name string) error {
	err := p.disk.change("sync", p.file.Sync)
	if err = errors.Join(err, p.file.Close()); err == nil {
		err = p.disk.change("rename", func() error { return os.Rename(p.path, filepath.Join(p.disk.dir, name)) })
	}
	if err == nil {
		err = p.disk.change("sync-directory", func() error { return syncDir(p.disk.dir) })
	}
	return err
}

// drop forgets the file. What cannot be removed, the next tidy removes.
func (p *pending) drop() {
	_ = p.file.Close()
	_ = p.disk.change("drop", func() error { return os.Remove(p.path) })
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *disk) writeManifest(m *Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	p, err := d.create(manifestName)
	if err != nil {
		return err
	}
	if _, err = p.Write(append(data, '\n')); err == nil {
		err = p.commit(manifestName)
	}
	if err != nil {
		p.drop()
	}
	return err
}

// eventFile is a file of events that is being written.
type eventFile struct {
	*pending
	File
	zip   *zstd.Encoder
	line  []byte
	plain int64 // bytes before compression
}

func (d *disk) createEvents(first uint64) (*eventFile, error) {
	p, err := d.create(nameOf(first, first))
	if err != nil {
		return nil, err
	}
	// One goroutine compresses: the log is no faster to read.
	zip, err := zstd.NewWriter(p, zstd.WithEncoderConcurrency(1))
	if err != nil {
		p.drop()
		return nil, fmt.Errorf("archive: %w", err)
	}
	return &eventFile{pending: p, zip: zip, File: File{First: first, Last: first - 1}}, nil
}

func (f *eventFile) add(r *events.Recorded) error {
	f.line = append(r.AppendCloudEvent(f.line[:0]), '\n')
	if _, err := f.zip.Write(f.line); err != nil {
		return fmt.Errorf("archive: write event %d: %w", r.Seq, err)
	}
	if f.Count == 0 {
		f.FirstTime = r.Time
	}
	if r.Time.After(f.LastTime) {
		f.LastTime = r.Time
	}
	f.Last, f.LastID = r.Seq, r.ID
	f.Count++
	f.plain += int64(len(f.line))
	return nil
}

// finish puts the file in its place.
func (f *eventFile) finish() error {
	if err := f.zip.Close(); err != nil {
		return fmt.Errorf("archive: write events %d to %d: %w", f.First, f.Last, err)
	}
	f.Name, f.Bytes, f.SHA256 = nameOf(f.First, f.Last), f.size, hex.EncodeToString(f.sum.Sum(nil))
	return f.commit(f.Name)
}

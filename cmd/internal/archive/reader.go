package archive

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-524e47bf/epum/events"
)

// decoderMemory bounds what a damaged file can make the decoder ask for, in bytes.
const decoderMemory = 64 << 20

// Reader reads an archive as its manifest was when it was opened: files never change,
// so another program may add to the archive meanwhile. It is safe for concurrent use.
type Reader struct {
	Manifest
	dir string
}

// Open opens the archive in a directory. The error wraps fs.ErrNotExist where there is
// none, and ErrDamaged.
func Open(dir string) (*Reader, error) {
	m, err := readManifest(dir)
	return &Reader{Manifest: m, dir: dir}, err
}

// Check compares all files with their checksums. The error wraps ErrDamaged and names
// the file.
func (r *Reader) Check(ctx context.Context) error {
	for _, f := range r.Files {
		if err := r.checkFile(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) checkFile(ctx context.Context, f File) error {
	file, err := r.open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, contextReader{ctx, file})
	switch {
	case err != nil:
		return fmt.Errorf("archive: read %s: %w", filepath.Join(r.dir, f.Name), err)
	case size != f.Bytes:
		return r.damaged(f, "it has %d bytes, its manifest says %d", size, f.Bytes)
	case hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return r.damaged(f, "its SHA-256 is %x, its manifest says %s", sum.Sum(nil), f.SHA256)
	}
	return nil
}

func (r *Reader) open(f File) (*os.File, error) {
	file, err := os.Open(filepath.Join(r.dir, f.Name))
	if missing(err) {
		return nil, r.damaged(f, "the file is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	return file, nil
}

func (r *Reader) damaged(f File, format string, args ...any) error {
	return fmt.Errorf("%w: events %d to %d in %s: %s; bring it back from a copy", ErrDamaged, f.First, f.Last, filepath.Join(r.dir, f.Name), fmt.Sprintf(format, args...))
}

// Read calls each with every event in [from, to] that the archive has, in order, until
// each fails or ctx ends. A file is compared with its checksum before any of its events
// is given. The error wraps ErrDamaged and names the file. Memory does not grow with
// what is read.
func (r *Reader) Read(ctx context.Context, from, to uint64, each func(*events.Recorded) error) error {
	begin, _ := slices.BinarySearchFunc(r.Files, from, func(f File, seq uint64) int {
		if f.Last < seq {
			return -1
		}
		return 1
	})
	for _, f := range r.Files[begin:] {
		if f.First > to {
			break
		}
		err := r.checkFile(ctx, f)
		if err == nil {
			err = r.readFile(ctx, f, from, to, each)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) readFile(ctx context.Context, f File, from, to uint64, each func(*events.Recorded) error) error {
	file, err := r.open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	zip, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(decoderMemory))
	if err != nil {
		return r.damaged(f, "%v", err)
	}
	defer zip.Close()
	lines := bufio.NewReaderSize(zip, 64<<10)
	for next := f.First; next <= min(f.Last, to); next++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return r.damaged(f, "it ends before event %d: %v", next, err)
		}
		if next < from && next < f.Last {
			continue
		}
		rec, err := r.Prefix.ParseCloudEvent(line)
		switch {
		case err != nil:
			return r.damaged(f, "%v", err)
		case rec.Seq != next:
			return r.damaged(f, "event %d stands where %d should", rec.Seq, next)
		case rec.Seq == f.Last && rec.ID != f.LastID:
			return r.damaged(f, "its last event is %s, its manifest says %s", rec.ID, f.LastID)
		case next < from:
			continue
		}
		if err := each(&rec); err != nil {
			return err
		}
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, c.ctx.Err()
	}
	return c.r.Read(p)
}

var errStop = errors.New("archive: enough")

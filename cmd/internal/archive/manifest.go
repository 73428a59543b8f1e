package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	manifestName   = "manifest.json"
	lockName       = ".lock"
	temporary      = ".tmp" // added to the name of a file that is being written
	manifestFormat = 1
)

// fileName is the form of the name of a file of events.
var fileName = regexp.MustCompile(`^events-\d{20}-\d{20}\.jsonl\.zst$`)

var (
	// ErrLocked is returned where another program writes the archive.
	ErrLocked = errors.New("archive: another 'epum archive' works on this directory")
	// ErrDamaged is returned where a file of an archive is missing, or is not what its
	// manifest says.
	ErrDamaged = errors.New("archive: damaged")
	// ErrOtherLog is returned where an archive is not one of the log.
	ErrOtherLog = errors.New("archive: of another log")
	// ErrIncomplete is returned where an archive lacks events that it has to have.
	ErrIncomplete = errors.New("archive: incomplete")
)

// Manifest says what an archive holds: the events from the first file's First to the
// last one's Last, without a gap.
type Manifest struct {
	Format  int           `json:"format"`
	Stream  string        `json:"stream"`
	Prefix  events.Prefix `json:"prefix"`
	Created time.Time     `json:"stream_created"` // which log
	Files   []File        `json:"files"`
}

// File is one file of an archive.
type File struct {
	Name      string    `json:"name"`
	First     uint64    `json:"first"` // sequences, both included
	Last      uint64    `json:"last"`
	Count     uint64    `json:"count"`
	FirstTime time.Time `json:"first_time"` // of the first event, stream time
	LastTime  time.Time `json:"last_time"`  // the latest of any
	LastID    string    `json:"last_id"`    // ce-id of the last event; "": it is none
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"` // of the file, hex
}

// First is the first sequence of an archive; 0: it is empty.
func (m *Manifest) First() uint64 {
	if len(m.Files) == 0 {
		return 0
	}
	return m.Files[0].First
}

// Last is the last sequence of an archive; 0: it is empty.
func (m *Manifest) Last() uint64 {
	if len(m.Files) == 0 {
		return 0
	}
	return m.Files[len(m.Files)-1].Last
}

// readManifest reads the manifest of a directory; fs.ErrNotExist where there is none.
func readManifest(dir string) (Manifest, error) {
	var m Manifest
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return m, fmt.Errorf("archive: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, fmt.Errorf("%w: %s of %s: %w", ErrDamaged, manifestName, dir, err)
	}
	if err := m.check(); err != nil {
		return m, fmt.Errorf("%w: %s of %s: %w", ErrDamaged, manifestName, dir, err)
	}
	return m, nil
}

func (m *Manifest) check() error {
	if m.Format != manifestFormat {
		return fmt.Errorf("format is %d, this version reads %d", m.Format, manifestFormat)
	}
	for n, f := range m.Files {
		switch {
		case !fileName.MatchString(f.Name) || f.Name != nameOf(f.First, f.Last):
			return fmt.Errorf("file %q is not named by its range %d to %d", f.Name, f.First, f.Last)
		case f.First == 0 || f.Last < f.First || f.Count != f.Last-f.First+1:
			return fmt.Errorf("file %s cannot have %d events from %d to %d", f.Name, f.Count, f.First, f.Last)
		case n > 0 && f.First != m.Files[n-1].Last+1:
			return fmt.Errorf("file %s does not follow %s", f.Name, m.Files[n-1].Name)
		}
	}
	return nil
}

func nameOf(first, last uint64) string {
	return fmt.Sprintf("events-%020d-%020d.jsonl.zst", first, last)
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

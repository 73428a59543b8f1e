package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxOutput is when a process's stdout or stderr is cut to nothing, in
	// bytes: two files an instance, so a thousand instances keep within 16 GiB.
	maxOutput = 8 << 20

	tailBytes = 4 << 10 // of stderr in a report; an instance may have 64 KiB
	tailLines = 20      // enough for a stack's end
)

func openOutput(home, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(home, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// trimOutput cuts the output files that have grown too long. The process goes
// on writing at the new end.
func trimOutput(home string) {
	for _, name := range []string{stdoutFile, stderrFile} {
		path := filepath.Join(home, name)
		if info, err := os.Stat(path); err == nil && info.Size() > maxOutput {
			_ = os.Truncate(path, 0) // tried again at the next look
		}
	}
}

// stderrTail is the last lines of an instance's stderr, as valid UTF-8; "" if
// there are none.
func stderrTail(home string) string {
	f, err := os.Open(filepath.Join(home, stderrFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	tail := make([]byte, tailBytes)
	n, _ := f.ReadAt(tail, max(0, info.Size()-tailBytes)) // io.EOF where it is shorter
	tail = bytes.TrimRight(tail[:n], "\n")
	lines := bytes.Split(tail, []byte("\n"))
	lines = lines[max(0, len(lines)-tailLines):]
	return strings.ToValidUTF8(string(bytes.Join(lines, []byte("\n"))), "?")
}

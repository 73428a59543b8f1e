package agent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed-524e47bf/epum/events"
)

const (
	maxChecks    = 4                      // of an agent at once: they are small, but an agent may have a thousand instances
	findingBytes = 500                    // of a check's last line in a heartbeat
	killWait     = 5 * time.Second        // for the end of a check that was killed; only the kernel can delay it
	outputWait   = 100 * time.Millisecond // for output of what a check has left outside of its process group
)

// check is an instance's health check: a program that exits with code 0 if the
// instance is well.
type check struct {
	Argv    []string      `json:"argv"`          // at least one
	Env     []string      `json:"env,omitempty"` // KEY=value, the type's
	Dir     string        `json:"dir,omitempty"` // "": the instance's own
	Timeout time.Duration `json:"timeout"`       // nanoseconds
}

// run runs the check, kills what it leaves in its process group, and gives the
// heartbeat that says what it found. pid is the instance's process. ok is false
// where ctx was done before; then the check was killed.
func (c check) run(ctx context.Context, home, id, site string, pid int) (hb heartbeat, ok bool) {
	timed, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	p, output, err := c.start(home, id, site, pid)
	if err != nil {
		return c.failed("check did not start: "+err.Error(), failedProcess{}), true
	}
	e, ended := p.wait(timed)
	if !ended {
		p.signal(syscall.SIGKILL)
		killed, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		defer cancel()
		p.wait(killed)
	}
	line := output.lastLine()
	switch {
	case !ended:
		return c.failed(fmt.Sprintf("check took longer than %v", c.Timeout), failedProcess{}), ctx.Err() == nil
	case !e.known:
		return c.failed("check ended, and its exit code is not known", failedProcess{}), true
	case e.signal != "":
		return c.failed(with("check was killed by "+e.signal, line), failedProcess{ExitSignal: e.signal}), true
	case e.code != 0:
		return c.failed(with(fmt.Sprintf("check exited with code %d", e.code), line), failedProcess{ExitCode: &e.code}), true
	}
	return heartbeat{State: events.HealthOK}, true
}

func (c check) start(home, id, site string, pid int) (process, *output, error) {
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Dir = cmp.Or(c.Dir, home)
	cmd.Env = environment(cmd.Environ(), c.Env, id, site)
	cmd.Env = append(cmd.Env, envPID+"="+strconv.Itoa(pid), envCheck+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		return process{}, nil, err
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	p, err := execute(cmd)
	if err != nil {
		r.Close()
		return process{}, nil, err
	}
	return p, readOutput(r), nil
}

func (c check) failed(sentence string, f failedProcess) heartbeat {
	f.Name = filepath.Base(c.Argv[0])
	return heartbeat{State: events.HealthProcessError, Error: sentence, Failed: []failedProcess{f}}
}

func with(sentence, line string) string {
	if line == "" {
		return sentence
	}
	return sentence + ": " + line
}

// output is the end of what a check writes, read as it comes so that the check
// never waits, however much that is.
type output struct {
	file *os.File // the reading end of a pipe
	done chan struct{}
	end  []byte // at most tailBytes; read only after done
}

func readOutput(r *os.File) *output {
	o := &output{file: r, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_, _ = io.Copy(o, r) // up to its end, or until lastLine has waited enough
	}()
	return o
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.end = append(o.end, p[max(0, len(p)-tailBytes):]...)
	o.end = o.end[max(0, len(o.end)-tailBytes):]
	return len(p), nil
}

// lastLine ends the reading and gives the last line that is not blank, as valid
// UTF-8 of at most findingBytes; "" if there is none. It is called once, when
// the check has ended.
func (o *output) lastLine() string {
	_ = o.file.SetReadDeadline(time.Now().Add(outputWait)) // a pipe has deadlines
	<-o.done
	o.file.Close()
	line := bytes.TrimSpace(o.end)
	line = bytes.TrimSpace(line[bytes.LastIndexByte(line, '\n')+1:])
	return strings.ToValidUTF8(string(line[:min(len(line), findingBytes)]), "?")
}

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The environment by which a process is known to be an instance's.
const (
	envInstance = "EPUM_INSTANCE" // the instance id
	envSite     = "EPUM_SITE"

	// A health check has these too.
	envPID   = "EPUM_PID"   // the instance's process
	envCheck = "EPUM_CHECK" // that it is a check, and no process of the instance; an instance never has it
)

// execWindow is far longer than a process takes, once it has let go of the
// directory's lock, until its environment can be read.
const execWindow = 200 * time.Millisecond

// process names a process for good: no other has its PID, start and boot.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start_ticks"` // clock ticks since boot, field 22 of /proc/<pid>/stat
	Boot  string `json:"boot_id"`

	session int  // its session's leader
	zombie  bool // when it was inspected
	check   bool // it is of a health check; only findProcesses says so
}

// start runs a command with its output in home, and returns once the command is
// executed.
func start(c command, home, id, site string) (process, error) {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	if cmd.Dir == "" {
		cmd.Dir = home
	}
	cmd.Env = environment(cmd.Environ(), c.env, id, site)
	// Files and no pipes: the process must not notice when the agent goes.
	// Appended to, so that they can be cut (see trimOutput).
	stdout, err := openOutput(home, stdoutFile)
	if err != nil {
		return process{}, err
	}
	defer stdout.Close()
	stderr, err := openOutput(home, stderrFile)
	if err != nil {
		return process{}, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return execute(cmd)
}

// environment is what a program runs with that belongs to an instance: what the
// agent has of its own accord, what the type adds, and whose it is.
func environment(agents, types []string, id, site string) []string {
	env := slices.DeleteFunc(agents, func(kv string) bool { return strings.HasPrefix(kv, "EPUM_") })
	for _, kv := range types {
		if !strings.HasPrefix(kv, envCheck+"=") {
			env = append(env, kv)
		}
	}
	return append(env, envInstance+"="+id, envSite+"="+site)
}

// execute runs a command in a session of its own, and returns once it is
// executed. Process.wait waits for it.
func execute(cmd *exec.Cmd) (process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	p, err := inspect(cmd.Process.Pid)
	if err != nil {
		return process{}, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	return p, cmd.Process.Release() // p.reap waits for it
}

// inspect reads what /proc says of a process, a zombie included.
func inspect(pid int) (process, error) {
	boot, err := bootID()
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, err
	}
	// Field 2 is the command in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat has %d fields after the command", pid, len(fields))
	}
	p := process{PID: pid, Boot: boot}
	// Field 3 is the state and field 20 the number of threads: the first one
	// may be a zombie while others go on.
	p.zombie = (fields[0] == "Z" || fields[0] == "X") && len(fields[17]) == 1 && fields[17] <= "1"
	if p.session, err = strconv.Atoi(fields[3]); err != nil { // field 6
		return process{}, err
	}
	p.Start, err = strconv.ParseUint(fields[19], 10, 64) // field 22
	return p, err
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// exists reports whether the process is there, if only as a zombie.
func (p process) exists() bool {
	now, err := inspect(p.PID)
	return err == nil && now.Start == p.Start && now.Boot == p.Boot
}

// alive reports whether the process runs.
func (p process) alive() bool {
	now, err := inspect(p.PID)
	return err == nil && now.Start == p.Start && now.Boot == p.Boot && !now.zombie
}

// signal sends a signal to the process group, which start made the process
// lead. A group that has gone is no error.
func (p process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.PID, sig) }

// kill ends this process alone.
func (p process) kill() { _ = syscall.Kill(p.PID, syscall.SIGKILL) }

// wait waits until the process has ended, kills what it left in its process
// group, and reaps it if it is a child of this program. ok is false where ctx
// was done before.
func (p process) wait(ctx context.Context) (e exit, ok bool) {
	ended := p.awaitDescriptor(ctx)
	if !ended {
		ended = p.poll(ctx)
	}
	if !ended {
		return exit{}, false
	}
	p.signal(syscall.SIGKILL)
	return p.reap(), true
}

// pollEvery is how soon a death is seen where the kernel gives no descriptor.
const pollEvery = 50 * time.Millisecond

func (p process) poll(ctx context.Context) bool {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for p.alive() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return ctx.Err() == nil
}

// reap gives the exit of a child that has ended, and lets the kernel forget
// it. Nothing is known of a process that is no child of this program.
func (p process) reap() exit {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(p.PID, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid != p.PID:
			return exit{}
		case status.Signaled():
			return exit{known: true, code: -1, signal: unix.SignalName(status.Signal())}
		default:
			return exit{known: true, code: status.ExitStatus()}
		}
	}
}

// findProcesses gives the processes of this machine that carry an instance id
// of the site, by that id.
func findProcesses(site string) map[string][]process {
	found := make(map[string][]process)
	paths, _ := filepath.Glob("/proc/[0-9]*/environ") // the pattern is well-formed
	for _, path := range paths {
		environ, err := os.ReadFile(path)
		if err != nil || len(environ) == 0 {
			continue // it has gone, is a zombie, or is another user's
		}
		id, of, check := "", "", false
		for kv := range strings.SplitSeq(string(environ), "\x00") {
			if v, ok := strings.CutPrefix(kv, envInstance+"="); ok {
				id = v
			} else if v, ok := strings.CutPrefix(kv, envSite+"="); ok {
				of = v
			}
			check = check || strings.HasPrefix(kv, envCheck+"=")
		}
		if id == "" || of != site {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if p, err := inspect(pid); err == nil && !p.zombie {
			p.check = check
			found[id] = append(found[id], p)
		}
	}
	return found
}

// leader gives the process that start started: what it started in turn has
// the same environment, but is later, and leads a session only by its own will.
func leader(found []process) (process, bool) {
	var first process
	for _, p := range found {
		if p.session == p.PID && (first.PID == 0 || p.Start < first.Start) {
			first = p
		}
	}
	return first, first.PID != 0
}

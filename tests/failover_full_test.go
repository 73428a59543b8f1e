package tests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/seed-524e47bf/epum/commands"
	"github.com/seed-524e47bf/epum/events"
)

// storeLimit lets the server reach its own limit of storage.
func storeLimit(t *testing.T) {
	server := newNATS(t, natsOptions{maxFile: "2MB"}).start().ready()
	fullStore(t, server, func() {}, func() { server.configure(natsOptions{}) })
}

// diskFull lets the server run out of a real file system.
func diskFull(t *testing.T) {
	disk := newDisk(t)
	server := newNATS(t, natsOptions{store: disk.dir}).start().ready()
	fullStore(t, server, disk.fill, disk.free)
}

// fullStore is a life in which the only server runs out of room, once fill has
// left little; free makes room again, and then the server is started anew.
func fullStore(t *testing.T, server *natsServer, fill, free func()) {
	f := newCell(t, &backend{servers: []*natsServer{server}, replicas: 1, lease: time.Second})
	f.still()
	w := f.observe("web", false)
	f.grow(w, nil)
	fill()
	all := map[string]commands.Command{}
	refused := 0
	for n := 0; refused < 5; n++ {
		if n == 100 {
			t.Fatal("there is room for all")
		}
		id := uuid.NewString()
		config := events.Config{General: fmt.Appendf(nil, `{"chef_credential":%q}`, strings.Repeat("x", 100<<10))}
		all[id] = commands.AddDefinition{DefinitionID: fmt.Sprint("big", n), Definition: config}
		if f.send(f.nc, all[id], id) != 200 {
			refused++
		}
	}
	server.kill()
	free()
	server.start().ready()
	f.answering(f.nc, 3)
	for id, cmd := range all {
		f.repeat(cmd, id)
	}
	f.shrink(w, nil)
	f.asIfNothingHappened(w)
}

// disk is a small file system in memory. It is mounted for one process alone that
// does nothing else, and is gone with it; others get there by way of its root. So
// it needs no root where user name spaces are allowed.
type disk struct {
	t      *testing.T
	dir    string
	filler string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	at := t.TempDir()
	keeper := exec.Command("sh", "-c", `mount -t tmpfs -o size=64m tmpfs "$0" && echo mounted && exec cat`, at)
	keeper.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		keeper.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		keeper.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		keeper.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var said bytes.Buffer
	keeper.Stderr = &said
	in, err1 := keeper.StdinPipe() // it ends with this process, however that ends
	out, err2 := keeper.StdoutPipe()
	if err := errors.Join(err1, err2, keeper.Start()); err != nil {
		t.Fatalf("a file system of its own, as root or in a user name space: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = keeper.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("mount a file system, as root or in a user name space: %q, %v: %s", line, err, &said)
	}
	dir := filepath.Join("/proc", fmt.Sprint(keeper.Process.Pid), "root", at)
	return &disk{t: t, dir: dir, filler: filepath.Join(dir, "filler")}
}

// fill takes all the room that is left.
func (d *disk) fill() {
	d.t.Helper()
	file, err := os.Create(d.filler)
	if err != nil {
		d.t.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("fill the disk: %v", err)
	}
}

// free gives the room back.
func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.filler); err != nil {
		d.t.Fatal(err)
	}
}

// zeros never ends.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

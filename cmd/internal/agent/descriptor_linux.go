package agent

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// awaitDescriptor waits until the process has ended, parked in the runtime's
// poller: no thread and no tick a process. False: ctx was done before, or the
// kernel gives no descriptor (Linux before 5.10, or forbidden).
func (p process) awaitDescriptor(ctx context.Context) bool {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), "pidfd")
	defer file.Close()
	if !p.exists() {
		return true // the descriptor may be of another process with the same id
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { file.Close() })()
	ended := false
	_ = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		ended = err == nil && n == 1
		return ended
	})
	return ended
}

//go:build !linux

package agent

import "context"

// awaitDescriptor is Linux's; elsewhere a process is polled.
func (p process) awaitDescriptor(context.Context) bool { return false }

// Command epum keeps domains of instances at the size and health that a policy
// asks for: the service and its client in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-524e47bf/epum/cmd/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C kills
	os.Exit(cli.Execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

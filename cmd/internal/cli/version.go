package cli

import (
	"context"
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/seed-524e47bf/epum/cmd/service"
)

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version of this program",
		Long:    "Print the version of this program, the revision that it was built from where that is known, and the version of Go.",
		Example: "  epum version\n  epum version -o json",
		Args:    exactly(0),
	}
	cmd.RunE = a.run(func(context.Context, []string) error {
		if a.output == outputTable {
			return a.printFields("epum", service.Version, "Revision", revision(), "Go", runtime.Version())
		}
		doc, err := json.Marshal(map[string]string{
			"version": service.Version, "revision": revision(), "go": runtime.Version(),
		})
		if err != nil {
			return err
		}
		return a.printJSON(doc)
	})
	return cmd
}

// revision is the commit that the program was built from; "" where the build
// does not say.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

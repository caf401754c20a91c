package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionOut is what version prints with --json.
type versionOut struct {
	Version  string   `json:"version"`
	Revision string   `json:"revision,omitempty"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	Drivers  []string `json:"drivers"`
}

func (a *app) versionCommand() *cobra.Command {
	return a.command(spec{
		use:     "version",
		short:   "show the version and the drivers that are built in",
		example: "blockstore version",
		run: func(context.Context, []string) error {
			v := a.version()
			return a.emit(v, func(w io.Writer) {
				fmt.Fprintf(w, "blockstore %s %s %s %s\n", v.Version, v.Revision, v.Go, v.Platform)
				for _, d := range v.Drivers {
					fmt.Fprintf(w, "driver %s\n", d)
				}
			})
		},
	})
}

// version is what the linker recorded.
func (a *app) version() versionOut {
	v := versionOut{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Drivers: orEmpty(a.kindNames()),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version is set by the linker: -X main.version=VERSION.
var version string

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
			v := a.versionOut()
			return a.emit(v, func(w io.Writer) {
				fmt.Fprintln(w, strings.Join([]string{"blockstore", v.Version, v.Go, v.Platform}, " "))
				for _, d := range v.Drivers {
					fmt.Fprintf(w, "driver %s\n", d)
				}
			})
		},
	})
}

// versionOut is what the linker and the compiler recorded.
func (a *app) versionOut() versionOut {
	v := versionOut{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Drivers: orEmpty(a.kindNames()),
	}
	if version != "" {
		v.Version = version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if version == "" && info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

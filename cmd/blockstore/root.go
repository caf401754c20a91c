package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// rootCommand builds the command line anew for each run: nothing is kept.
func (a *app) rootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blockstore",
		Short: "container images and containers as thin snapshots",
		Long: `blockstore keeps every image layer as a thin snapshot of its parent, and every
container as a thin snapshot of its image: a write costs one block's copy, not a
file's. It works on device-mapper thin pools and on btrfs.

stdout is data, stderr is for people. With --json each verb prints one document;
docs/cli.md has their shapes. Sizes are in powers of 1024, in and out.

Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 in use, 5 no space,
6 needs repair.`,
		Example: `  blockstore init
  docker save debian:12 | blockstore load -i -
  blockstore create --name web debian:12
  cd $(blockstore mount web)`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown verb %q: see blockstore help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			abs, err := filepath.Abs(a.root)
			if a.root == "" || err != nil {
				return usagef("--root %q: not a directory's name", a.root)
			}
			a.root = abs
			if a.lent != nil { // there is one store in a server, whatever it is called
				a.root = a.lent.root
			}
			return nil
		},
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.root, "root", defaultRoot, "the store's `DIR`ectory")
	f.BoolVar(&a.json, "json", false, "print one JSON document instead of text")
	f.StringVar(&a.logLevel, "log-level", "warn", "what to log on stderr: debug, info, warn or error")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(
		a.initCommand(), a.infoCommand(), a.destroyCommand(), a.poolCommand(),
		a.loadCommand(), a.saveCommand(), a.importCommand(), a.exportCommand(),
		a.imagesCommand(), a.historyCommand(), a.tagCommand(), a.rmiCommand(),
		a.createCommand(), a.psCommand(), a.rmCommand(), a.mountCommand(), a.umountCommand(),
		a.diffCommand(), a.commitCommand(), a.inspectCommand(), a.duCommand(), a.topCommand(),
		a.checkCommand(), a.gcCommand(), a.serveCommand(), a.thinCommand(), a.benchCommand(), a.versionCommand(),
	)
	return cmd
}

// spec is what all verbs say about themselves.
type spec struct {
	use, short, long, example string
	// min and max bound the number of arguments; max < 0 is no bound.
	min, max int
	// logLevel is the level unless --log-level names one; "" is the program's.
	logLevel string
	run      verb
}

// command makes a cobra command of a verb. The caller adds the flags.
func (a *app) command(s spec) *cobra.Command {
	return &cobra.Command{
		Use: s.use, Short: s.short, Long: s.long, Example: indent(s.example),
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < s.min || (s.max >= 0 && len(args) > s.max) {
				return usagef("%s takes %s: blockstore %s", cmd.Name(), arguments(s.min, s.max), s.use)
			}
			return nil
		},
		RunE: a.do(s),
	}
}

func arguments(min, max int) string {
	count := func(n int) string {
		switch n {
		case 0:
			return "no argument"
		case 1:
			return "one argument"
		}
		return fmt.Sprintf("%d arguments", n)
	}
	switch {
	case max < 0:
		return "at least " + count(min)
	case min == max:
		return count(min)
	}
	return fmt.Sprintf("%d to %d arguments", min, max)
}

// indent sets examples off as cobra's help expects them.
func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/snapshot"
)

func (a *app) poolCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "look after the backing store: status, watch, extend, trim, repair",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown verb %q: pool takes status, watch, extend, trim or repair", args[0])
			}
			return usagef("pool takes status, watch, extend, trim or repair")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.poolStatusCommand(), a.poolWatchCommand(), a.poolExtendCommand(), a.poolTrimCommand(), a.poolRepairCommand())
	return cmd
}

func (a *app) poolStatusCommand() *cobra.Command {
	return a.command(spec{
		use:     "status",
		short:   "show the space and the health of the backing store",
		example: "blockstore pool status",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.emitPool(ctx, s) })
		},
	})
}

func (a *app) emitPool(ctx context.Context, s *snapshot.Store) error {
	st, err := s.Driver().Status(ctx)
	if err != nil {
		return err
	}
	st.Rows = orEmpty(st.Rows)
	return a.emit(st, func(w io.Writer) {
		writeHealth(w, st)
		writeBacking(w, st)
	})
}

// extendOptions are the flags of pool extend.
type extendOptions struct {
	devices    []string
	yes, force bool
}

func (a *app) poolExtendCommand() *cobra.Command {
	var o extendOptions
	cmd := a.command(spec{
		use:   "extend [SIZE|+SIZE] [flags]",
		short: "enlarge the backing store, to SIZE or by +SIZE",
		long: `Enlarges the data space of the backing store: a loopback file, or a thin pool in
the volume group that "init --device" made. Containers may be in use meanwhile. A
store cannot be made smaller.

Without SIZE, devices that have been enlarged are taken as they are now, and a
volume group gives what it has free. --device adds further disks to the group
first; a twentieth of what is free then stays free. To the data of a store that was
made with --data-device it joins them.`,
		example: "blockstore pool extend 200G\nblockstore pool extend +20G\nblockstore pool extend --device /dev/sdd --yes",
		max:     1,
		run: func(ctx context.Context, args []string) error {
			if (o.yes || o.force) && len(o.devices) == 0 {
				return usagef("--yes and --force are for --device")
			}
			devices, err := a.files(o.devices)
			if err != nil {
				return err
			}
			var n int64
			text := strings.Join(args, "")
			plus := strings.HasPrefix(text, "+")
			if text != "" {
				if n, err = size.Parse(strings.TrimPrefix(text, "+")); err != nil {
					return usageError{err}
				}
			}
			return a.withStore(ctx, func(s *snapshot.Store) error {
				if plus {
					st, err := s.Driver().Status(ctx)
					if err != nil {
						return err
					}
					n += st.Data.Total
				}
				return a.extend(ctx, s, snapshot.ExtendOptions{Devices: devices, Size: n, Yes: o.yes, Force: o.force})
			})
		},
	})
	f := cmd.Flags()
	f.StringArrayVar(&o.devices, "device", nil, "blank disk `DEV`ice to add to the store's volume group or data; may be repeated")
	f.BoolVar(&o.yes, "yes", false, "the disks of --device may be taken whole")
	f.BoolVar(&o.force, "force", false, "take disks that hold old data; it is lost")
	return cmd
}

// files is file for several.
func (a *app) files(names []string) ([]string, error) {
	var all []string
	for _, name := range names {
		f, err := a.file(name)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (a *app) extend(ctx context.Context, s *snapshot.Store, o snapshot.ExtendOptions) error {
	d := s.Driver()
	err := fmt.Errorf("the %s driver cannot enlarge its backing store so: %w", d.Name(), snapshot.ErrNotSupported)
	if e, ok := d.(snapshot.Extender); ok && len(o.Devices) > 0 {
		err = e.Extend(ctx, o)
	} else if g, ok := d.(snapshot.Grower); ok && len(o.Devices) == 0 {
		err = g.Grow(ctx, o.Size)
	}
	switch {
	case errors.Is(err, snapshot.ErrUnconfirmed):
		return mendf(err, "say --yes if that is meant")
	case err != nil && o.Size == 0 && len(o.Devices) == 0:
		return mendf(err, "name the size: blockstore pool extend SIZE, or +SIZE")
	case err != nil:
		return err
	}
	return a.emitPool(ctx, s)
}

// trimmed is what pool trim prints with --json.
type trimmed struct {
	Bytes int64 `json:"bytes"`
}

func (a *app) poolTrimCommand() *cobra.Command {
	return a.command(spec{
		use:     "trim",
		short:   "give unused blocks back to what lies below the store",
		example: "blockstore pool trim",
		run: func(ctx context.Context, _ []string) error {
			return a.withStore(ctx, func(s *snapshot.Store) error {
				t, ok := s.Driver().(snapshot.Trimmer)
				if !ok {
					return fmt.Errorf("the %s driver cannot trim: %w", s.Driver().Name(), snapshot.ErrNotSupported)
				}
				n, err := t.Trim(ctx)
				if err != nil {
					return err
				}
				return a.emit(trimmed{n}, func(w io.Writer) { fmt.Fprintf(w, "%s given back\n", amount(n)) })
			})
		},
	})
}

package main

import (
	"context"
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
		Short: "look after the backing store: status, extend, trim",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown verb %q: pool takes status, extend or trim", args[0])
			}
			return usagef("pool takes status, extend or trim")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(a.poolStatusCommand(), a.poolExtendCommand(), a.poolTrimCommand())
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

func (a *app) poolExtendCommand() *cobra.Command {
	return a.command(spec{
		use:   "extend SIZE|+SIZE",
		short: "enlarge the backing store, to SIZE or by +SIZE",
		long: `Enlarges the data space of a backing store that blockstore made on a loopback
file. Containers may be in use meanwhile. A store cannot be made smaller.`,
		example: "blockstore pool extend 200G\nblockstore pool extend +20G",
		min:     1, max: 1,
		run: func(ctx context.Context, args []string) error {
			plus := strings.HasPrefix(args[0], "+")
			n, err := size.Parse(strings.TrimPrefix(args[0], "+"))
			if err != nil {
				return usageError{err}
			}
			return a.withStore(ctx, func(s *snapshot.Store) error { return a.extend(ctx, s, n, plus) })
		},
	})
}

func (a *app) extend(ctx context.Context, s *snapshot.Store, size int64, plus bool) error {
	g, ok := s.Driver().(snapshot.Grower)
	if !ok {
		return fmt.Errorf("the %s driver cannot enlarge its backing store: %w", s.Driver().Name(), snapshot.ErrNotSupported)
	}
	if plus {
		st, err := s.Driver().Status(ctx)
		if err != nil {
			return err
		}
		size += st.Data.Total
	}
	if err := g.Grow(ctx, size); err != nil {
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

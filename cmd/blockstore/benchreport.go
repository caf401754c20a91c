package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"blockstore.dev/blockstore/perf"
	"blockstore.dev/blockstore/perf/page"
	"blockstore.dev/blockstore/snapshot"
)

// benchReportOptions are bench report's flags.
type benchReportOptions struct {
	out string
	png string
}

// benchReportOut is what bench report prints with --json.
type benchReportOut struct {
	Page   string   `json:"page"`
	Charts []string `json:"charts"` // the PNG files
}

func (a *app) benchReportCommand() *cobra.Command {
	var o benchReportOptions
	cmd := a.command(spec{
		use:   "report RESULT.json... --out FILE.html [--png DIR]",
		short: "make one HTML page with charts of what was measured",
		long: `Makes a page that can be looked at offline, of one result or of several, each a part
of its own: where blockstore wins and where it loses, targets, what was not run, the
machine, and for each workload charts and a table. With --png the charts are written
as images too, into a directory that is made if it is not there.`,
		example: "blockstore bench report figures.json --out figures.html\nblockstore bench report host.json uml.json --out both.html --png charts",
		min:     1, max: -1,
		run: func(ctx context.Context, args []string) error { return a.benchReport(ctx, o, args) },
	})
	cmd.Flags().StringVarP(&o.out, "out", "o", "", "write the page into this `FILE`; - is stdout")
	cmd.Flags().StringVar(&o.png, "png", "", "write each chart as a PNG into this `DIR`ectory")
	_ = cmd.MarkFlagRequired("out") // it exists
	return cmd
}

func (a *app) benchReport(ctx context.Context, o benchReportOptions, args []string) error {
	reports, err := a.readReports(ctx, args)
	if err != nil {
		return err
	}
	out := benchReportOut{Page: o.out, Charts: []string{}}
	if o.png != "" {
		dir, err := a.file(o.png)
		if err != nil {
			return err
		}
		if out.Charts, err = a.writeCharts(ctx, dir, reports); err != nil {
			return err
		}
	}
	if err := a.writeFile(o.out, func(w io.Writer) error { return page.Write(w, reports...) }); err != nil || o.out == "-" {
		return err
	}
	return a.emit(out, func(w io.Writer) {
		fmt.Fprintln(w, out.Page)
		for _, name := range out.Charts {
			fmt.Fprintln(w, name)
		}
	})
}

// writeCharts writes all charts, named by their report's number, theirs and their title.
func (a *app) writeCharts(ctx context.Context, dir string, reports []*perf.Report) ([]string, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	names := []string{}
	for i, r := range reports {
		for j, c := range page.Charts(r) {
			if err := ctx.Err(); err != nil {
				return names, err
			}
			name := filepath.Join(dir, fmt.Sprintf("%d-%02d-%s.png", i+1, j+1, fileName(c.Name)))
			if err := a.writeFile(name, c.Drawing.PNG); err != nil {
				return names, err
			}
			names = append(names, name)
		}
	}
	return names, nil
}

// fileName makes a title a file's name: letters, digits and hyphens.
func fileName(title string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	name := strings.Join(words, "-")
	return name[:min(len(name), 60)]
}

func (a *app) readReports(ctx context.Context, names []string) ([]*perf.Report, error) {
	var reports []*perf.Report
	for _, name := range names {
		r, err := a.readReport(ctx, name)
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// readReport reads the JSON of a benchmark.
func (a *app) readReport(ctx context.Context, name string) (*perf.Report, error) {
	var r *perf.Report
	err := a.readJSON(ctx, name, func(f io.Reader) (err error) {
		r, err = perf.Read(f)
		return err
	})
	return r, mendIf(err, perf.ErrNotReport, "name the JSON that a benchmark wrote with --out")
}

// readJSON has read read a file, or stdin for "-".
func (a *app) readJSON(ctx context.Context, name string, read func(io.Reader) error) error {
	if name == "-" {
		return wrapName("stdin", read(a.input(ctx, name)))
	}
	path, err := a.file(name)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, snapshot.ErrNotFound)
	}
	if err != nil {
		return err
	}
	return errors.Join(wrapName(name, read(f)), f.Close())
}

func wrapName(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// mendIf makes an error of one kind an invalid input's that says how to mend it.
func mendIf(err, kind error, mend string) error {
	if !errors.Is(err, kind) {
		return err
	}
	return mendf(fmt.Errorf("%w: %w", err, snapshot.ErrInvalid), "%s", mend)
}

package metadata

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"blockstore.dev/blockstore/dm"
)

// DumpOptions say what Dump writes.
type DumpOptions struct {
	// Devices are the only ones to be written; none means all.
	Devices []dm.DeviceID
	// SkipMappings leaves the mappings out.
	SkipMappings bool
}

// Dump writes the devices and their mappings as thin_dump does, in XML that thin_restore reads. ErrNotFound for a
// device that does not exist. After an error what was written is incomplete.
func (v *View) Dump(ctx context.Context, out io.Writer, o DumpOptions) error {
	w := bufio.NewWriter(out)
	devices, err := v.Devices(ctx)
	if err != nil {
		return err
	}
	if len(o.Devices) > 0 {
		devices = devices[:0]
		for _, id := range o.Devices {
			d, err := v.Device(ctx, id)
			if err != nil {
				return err
			}
			devices = append(devices, d)
		}
	}
	flags := 0
	if v.sb.NeedsCheck {
		flags = flagNeedsCheck
	}
	fmt.Fprintf(w, "<superblock uuid=\"\" time=\"%d\" transaction=\"%d\" flags=\"%d\" version=\"%d\" data_block_size=\"%d\" nr_data_blocks=\"%d\">\n",
		v.sb.Time, v.sb.TransactionID, flags, version, v.sb.BlockSize, v.sb.DataBlocks)
	for _, d := range devices {
		if err := v.dumpDevice(ctx, w, d, o.SkipMappings); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "</superblock>\n")
	return w.Flush()
}

func (v *View) dumpDevice(ctx context.Context, w *bufio.Writer, d Device, skip bool) error {
	fmt.Fprintf(w, "  <device dev_id=\"%d\" mapped_blocks=\"%d\" transaction=\"%d\" creation_time=\"%d\" snap_time=\"%d\">\n",
		d.ID, d.Mapped, d.TransactionID, d.Created, d.Snapshotted)
	if !skip {
		for m, err := range v.Mappings(ctx, d.ID) {
			if err == nil {
				err = writeMapping(w, m)
			}
			if err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "  </device>\n")
	return err
}

func writeMapping(w io.Writer, m Mapping) error {
	var err error
	if m.Length == 1 {
		_, err = fmt.Fprintf(w, "    <single_mapping origin_block=\"%d\" data_block=\"%d\" time=\"%d\"/>\n", m.Begin, m.Data, m.Time)
	} else {
		_, err = fmt.Fprintf(w, "    <range_mapping origin_begin=\"%d\" data_begin=\"%d\" length=\"%d\" time=\"%d\"/>\n", m.Begin, m.Data, m.Length, m.Time)
	}
	return err
}

// DumpDelta writes a delta as thin_delta does, in XML.
func (v *View) DumpDelta(ctx context.Context, out io.Writer, o DeltaOptions) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "<superblock uuid=\"\" time=\"%d\" transaction=\"%d\" data_block_size=\"%d\" nr_data_blocks=\"%d\"",
		v.sb.Time, v.sb.TransactionID, v.sb.BlockSize, v.sb.DataBlocks)
	if v.sb.HeldRoot != 0 && !v.held {
		fmt.Fprintf(w, " metadata_snap=\"%d\"", v.sb.HeldRoot)
	}
	fmt.Fprintf(w, ">\n  <diff left=\"%d\" right=\"%d\">\n", o.Left, o.Right)
	for c, err := range v.Delta(ctx, o) {
		if err == nil {
			_, err = fmt.Fprintf(w, "    <%s begin=\"%d\" length=\"%d\"/>\n", c.Kind, c.Begin, c.Length)
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprint(w, "  </diff>\n</superblock>\n")
	return w.Flush()
}

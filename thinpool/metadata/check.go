package metadata

import (
	"context"
	"errors"
	"fmt"

	"blockstore.dev/blockstore/dm"
)

// Finding is one thing that is wrong with the metadata.
type Finding struct {
	// Block is the metadata block where it shows.
	Block dm.MetadataBlocks
	Text  string
	// Leak says that nothing is lost but space: a block is counted as used, and nothing refers to it.
	Leak bool
}

// maxFindings bounds a report: the rest would say the same.
const maxFindings = 1000

// CheckOptions say what Check leaves out.
type CheckOptions struct {
	// SkipMappings leaves out the devices' mapping trees, and the space maps with them.
	SkipMappings bool
}

// Check reads all of the metadata: each tree, whether the details agree with the mappings, and whether the space maps
// count what there is; those only for a View of a pool that is down. Findings are what is wrong; the error is that of
// the reader, or the context's. It does not look at data blocks.
//
// The counts are compared block by block up to two; beyond that the sum of all counts in each 16,320 blocks, weighted so
// that wrong ones do not cancel out, and the finding names the range. A node that devices share is looked at once, and how
// full nodes are is not looked at.
func (v *View) Check(ctx context.Context, o CheckOptions) ([]Finding, error) {
	c := checker{v: v}
	err := c.check(ctx, o)
	if errors.Is(err, errTooMany) {
		err = nil
	}
	return c.found, err
}

var errTooMany = errors.New("too many findings")

type checker struct {
	v     *View
	found []Finding
	// broken says that some tree could not be read to its end, so that its references are unknown.
	broken bool
}

// report makes corruption a finding, and passes other errors on.
func (c *checker) report(err error) error {
	var bad *CorruptError
	if !errors.As(err, &bad) {
		return err
	}
	c.broken = true
	return c.add(Finding{Block: bad.Block, Text: bad.Reason})
}

func (c *checker) add(f Finding) error {
	c.found = append(c.found, f)
	if len(c.found) < maxFindings {
		return nil
	}
	c.found = append(c.found, Finding{Text: fmt.Sprintf("and more: the check ended after %d findings", maxFindings)})
	return errTooMany
}

func (c *checker) check(ctx context.Context, o CheckOptions) error {
	if c.v.sb.NeedsCheck {
		if err := c.add(Finding{Text: "the superblock says needs_check: a commit failed"}); err != nil {
			return err
		}
	}
	if err := c.devices(ctx, c.v, !o.SkipMappings); err != nil || o.SkipMappings || c.v.held {
		return err
	}
	return c.spaceMaps(ctx)
}

// devices compares details and mappings, device by device.
func (c *checker) devices(ctx context.Context, v *View, mappings bool) error {
	devices, err := v.Devices(ctx)
	if err != nil {
		return c.report(err)
	}
	trees, err := v.trees(ctx)
	if err != nil {
		return c.report(err)
	}
	if err := v.sameDevices(devices, trees); err != nil {
		return c.report(err)
	}
	if !mappings {
		return nil
	}
	counter := newMappedCounter(v)
	for i, d := range devices {
		n, err := counter.count(ctx, place{block: trees[i].root, in: everything()})
		if err == nil && n != d.Mapped {
			err = c.add(Finding{Block: v.sb.DetailsRoot, Text: fmt.Sprintf("device %d is said to map %d blocks and maps %d", d.ID, d.Mapped, n)})
		}
		if err = c.report(err); err != nil {
			return err
		}
	}
	return nil
}

// spaceMaps counts all references and compares.
func (c *checker) spaceMaps(ctx context.Context) error {
	if c.broken {
		return c.add(Finding{Text: "the space maps were not checked, since what refers to blocks is not all known"})
	}
	t := newTally(c.v)
	if err := t.all(ctx); err != nil {
		return c.report(err)
	}
	data, metadata := c.v.spaceMapsOf()
	if err := c.compare(ctx, data, t.data); err != nil {
		return err
	}
	return c.compare(ctx, metadata, t.metadata)
}

// compare finds where a space map and the references differ.
func (c *checker) compare(ctx context.Context, s *SpaceMap, want *weighted) error {
	var sum, begin uint64
	var told bool // of this range
	end := func(next uint64) error {
		wrong := sum != want.sums[begin/countsPerBitmap] && !told
		first := begin
		sum, begin, told = 0, next, false
		if !wrong {
			return nil
		}
		return c.add(Finding{Block: s.root.counts, Text: fmt.Sprintf("%s: counts of blocks %d to %d are not the number of references", s.name, first, next-1)})
	}
	err := s.each(ctx, func(block uint64, count uint32) error {
		if block-begin == countsPerBitmap {
			if err := end(block); err != nil {
				return err
			}
		}
		sum += uint64(count) * weight(block)
		refs := uint32(want.counts.get(block))
		if min(count, maxCount) == refs {
			return nil
		}
		told = true
		return c.add(differs(s, block, count, refs))
	})
	if err == nil && s.Blocks > 0 {
		err = end(s.Blocks)
	}
	return c.report(err)
}

func differs(s *SpaceMap, block uint64, count, refs uint32) Finding {
	f := Finding{Block: s.root.bitmaps, Leak: count > refs && refs < maxCount}
	many := fmt.Sprint(refs)
	if refs == maxCount {
		many = "at least 3"
	}
	f.Text = fmt.Sprintf("%s: block %d is counted %d times and has %s references", s.name, block, count, many)
	return f
}

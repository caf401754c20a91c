package graphdriver

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"

	"blockstore.dev/blockstore/snapshot"
)

// statusLimit is how long `docker info` waits for the backing store.
const statusLimit = 5 * time.Second

// status gives the rows of `docker info`. A backing store that does not answer is
// reported, not waited for.
func (p *Plugin) status(ctx context.Context, _ request) (any, error) {
	type outcome struct {
		status snapshot.StoreStatus
		layers []snapshot.Info
		err    error
	}
	result := make(chan outcome, 1)
	p.calls.Go(func() {
		var o outcome
		if o.status, o.err = p.store.Status(ctx); o.err == nil {
			o.layers, o.err = p.store.List(ctx)
		}
		result <- o
	})
	late := time.NewTimer(statusLimit)
	defer late.Stop()
	select {
	case o := <-result:
		if o.err != nil {
			return statusRows{[][2]string{{"Health", "UNKNOWN: " + o.err.Error()}}}, nil
		}
		return statusRows{p.rows(o.status, o.layers)}, nil
	case <-late.C:
		return statusRows{[][2]string{{"Health", fmt.Sprintf("UNKNOWN: the backing store has not answered for %v", statusLimit)}}}, nil
	}
}

// rows tells health and space first, then what is ours, then the driver's own rows.
func (p *Plugin) rows(st snapshot.StoreStatus, all []snapshot.Info) [][2]string {
	var rows [][2]string
	row := func(label, value string) { rows = append(rows, [2]string{label, value}) }
	health := "ok"
	if !st.Backing.Healthy {
		health = "NEEDS ATTENTION: " + st.Backing.Problem
	}
	row("Health", health)
	row("Driver", st.Driver)
	row("Root Dir", st.Root)
	row("Store ID", st.StoreID)
	if p.version != "" {
		row("Version", p.version)
	}
	told, rules := p.told()
	limit := st.BaseSize
	if rules.size != 0 {
		limit = rules.size
	}
	row("Size Limit", humanize.IBytes(uint64(limit)))
	if rules.leastFree > 0 {
		row("Minimum Free Space", strconv.Itoa(rules.leastFree)+"%")
	}
	row("User Namespace", strconv.FormatBool(told.mapped()))
	count := tally(all, st.Backing.Data.Used)
	row("Layers", strconv.Itoa(count.layers))
	row("Containers", strconv.Itoa(count.containers))
	row("Mounted", strconv.Itoa(count.mounted))
	row("Shared", humanize.IBytes(uint64(count.shared)))
	row("Exclusive", humanize.IBytes(uint64(count.exclusive)))
	for _, r := range st.Backing.Rows {
		row(r.Label, r.Value)
	}
	return rows
}

// counts are of the whole store, other doors' snapshots included.
type counts struct {
	layers, containers, mounted int
	// shared are bytes of layers that something stands on; exclusive is all else that
	// is used: of one layer or container alone.
	shared, exclusive int64
}

// tally reads what the catalog knows. Containers are not asked: on some drivers that
// takes longer than `docker info` should.
func tally(all []snapshot.Info, used int64) counts {
	var c counts
	parents := map[string]bool{}
	for _, in := range all {
		parents[in.Parent] = true
	}
	for _, in := range all {
		switch in.Kind {
		case snapshot.KindLayer:
			c.layers++
			if parents[in.Name] {
				c.shared += in.Usage.Added
			}
		case snapshot.KindContainer:
			c.containers++
		}
		if in.Mounted != "" {
			c.mounted++
		}
	}
	c.exclusive = max(used-c.shared, 0)
	return c
}

// metadata is what `docker inspect` shows as GraphDriver.Data.
func (p *Plugin) metadata(ctx context.Context, q request) (any, error) {
	if err := checkID(q.ID); err != nil {
		return nil, err
	}
	in, err := p.store.Stat(ctx, Name(q.ID))
	if err != nil {
		return nil, err
	}
	data := map[string]string{
		"Name": in.Name, "Kind": string(in.Kind), "Driver": p.store.Driver().Name(),
		"Volume": fmt.Sprint(in.Volume.ID), "Origin": fmt.Sprint(in.Volume.Origin),
		"SizeLimit": fmt.Sprint(in.Volume.Size), "Sealed": strconv.FormatBool(in.Volume.Sealed),
	}
	if in.Mounted != "" {
		data["MergedDir"] = in.Mounted
	}
	if in.Kind == snapshot.KindLayer && in.Volume.Sealed {
		referenced, err := p.store.Referenced(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		data["BytesAdded"] = fmt.Sprint(in.Usage.Added)
		data["BytesReferenced"] = fmt.Sprint(referenced)
	}
	return metadata{data}, nil
}

package graphdriver

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"blockstore.dev/blockstore/internal/size"
	"blockstore.dev/blockstore/snapshot"
)

// rules are what the daemon's storage options ask of us.
type rules struct {
	size      int64 // the limit of layers and containers that get no other
	leastSize int64 // what a container's own limit is at least
	leastFree int   // per cent of data and metadata that must be free for a creation
}

// defaultLeastFree is Docker's, of its devicemapper driver.
const defaultLeastFree = 10

// facts are what of the store the options are compared with.
type facts struct {
	driver     string
	fileSystem string
	rows       map[string]string
}

func (p *Plugin) facts(ctx context.Context) facts {
	f := facts{driver: p.store.Driver().Name(), rows: map[string]string{}}
	if st, err := p.store.Driver().Status(ctx); err == nil {
		for _, r := range st.Rows {
			f.rows[r.Label] = r.Value
		}
	}
	f.fileSystem = f.rows["Backing Filesystem"]
	return f
}

// option is one storage option of Docker's: what it does here, or why not and what
// to use in its place.
type option struct {
	key string
	// driver is the only one whose stores the option makes sense for.
	driver string
	apply  func(r *rules, f facts, value string) error
}

// instead refuses an option.
func instead(text string) func(*rules, facts, string) error {
	return func(*rules, facts, string) error { return fmt.Errorf("%s: %w", text, snapshot.ErrNotSupported) }
}

// always accepts what is so anyway, and refuses the contrary.
func always(what string) func(*rules, facts, string) error {
	return func(_ *rules, _ facts, value string) error {
		on, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false: %w", value, snapshot.ErrInvalid)
		}
		if !on {
			return fmt.Errorf("%s; leave the option out: %w", what, snapshot.ErrNotSupported)
		}
		return nil
	}
}

const (
	dmDriver    = "devicemapper"
	btrfsDriver = "btrfs"
	zfsDriver   = "zfs"
)

// options are all that Docker's drivers devicemapper, btrfs, zfs, overlay2 and vfs
// have. docs/docker.md lists them.
func options() []option {
	const init = "a store is made by `blockstore init`"
	return []option{
		{"size", "", setSize},
		{"dm.basesize", dmDriver, setSize},
		{"dm.min_free_space", dmDriver, setLeastFree},
		{"dm.fs", dmDriver, sameFileSystem},
		{"dm.blocksize", dmDriver, sameBlockSize},
		{"dm.blkdiscard", dmDriver, always("what a removed layer held is always given back")},
		{"dm.use_deferred_removal", dmDriver, always("busy devices are always removed by the kernel when they are free")},
		{"dm.use_deferred_deletion", dmDriver, always("busy layers are always deleted when they are free")},
		{"dm.override_udev_sync_check", dmDriver, nothingToOverride},
		{"dm.thinpooldev", dmDriver, instead(init + " --thin-pool POOL, where POOL is VG/LV or a device-mapper name")},
		{"dm.datadev", dmDriver, instead(init + " --data-device DEV --metadata-device DEV")},
		{"dm.metadatadev", dmDriver, instead(init + " --data-device DEV --metadata-device DEV")},
		{"dm.loopdatasize", dmDriver, instead(init + " --loopback SIZE, and grows by `blockstore pool extend SIZE`")},
		{"dm.loopmetadatasize", dmDriver, instead("the metadata is made as large as the data needs, and grows with it (`blockstore pool extend SIZE`)")},
		{"dm.mkfsarg", dmDriver, instead("the file system is laid out for the pool's blocks; choose it by `blockstore init --fs ext4|xfs`")},
		{"dm.mountopt", dmDriver, instead("layers are mounted noatime, xfs with nouuid, and need no further options")},
		{"dm.xfs_nospace_max_retries", dmDriver, instead("a full pool gives errors at once; choose ext4 (`blockstore init --fs ext4`), which does not retry")},
		{"dm.libdm_log_level", dmDriver, instead("there is no libdevmapper in blockstore; use `blockstore serve --log-level debug`")},
		{"dm.directlvm_device", dmDriver, instead(init + " --device DEV --yes, and extended by `blockstore pool extend --device DEV`")},
		{"dm.directlvm_device_force", dmDriver, instead(init + " --device DEV --force")},
		{"dm.thinp_percent", dmDriver, instead("make a pool of the size you want with lvcreate: `blockstore init --thin-pool VG/LV`")},
		{"dm.thinp_metapercent", dmDriver, instead("make a pool of the size you want with lvcreate: `blockstore init --thin-pool VG/LV`")},
		{"dm.thinp_autoextend_threshold", dmDriver, instead("the server extends the pool before it is full: `blockstore serve --extend-at PERCENT`")},
		{"dm.thinp_autoextend_percent", dmDriver, instead("the server extends the pool before it is full: `blockstore serve --extend-by PERCENT`")},
		{"btrfs.min_space", btrfsDriver, setLeastSize},
		{"zfs.fsname", zfsDriver, instead(init + " --dataset POOL/FS")},
		{"overlay2.size", "", instead("use size=SIZE, which limits a container's whole tree, its image included")},
		{"overlay2.override_kernel_check", "", instead("that is for overlay2")},
	}
}

// parseOptions reads the daemon's --storage-opt values. An option that is not known is
// refused, as Docker's own drivers do.
func parseOptions(given []string, f facts) (rules, error) {
	var r rules
	if f.driver == dmDriver {
		r.leastFree = defaultLeastFree
	}
	known := options()
	for _, text := range given {
		key, value, ok := strings.Cut(text, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return r, fmt.Errorf("storage option %q: it must be key=value: %w", text, snapshot.ErrInvalid)
		}
		i := slices.IndexFunc(known, func(o option) bool { return o.key == key })
		if i < 0 {
			return r, fmt.Errorf("storage option %q is unknown (docs/docker.md lists those that there are): %w", key, snapshot.ErrInvalid)
		}
		o := known[i]
		if err := o.apply(&r, f, strings.TrimSpace(value)); err != nil {
			return r, fmt.Errorf("storage option %s: %w", key, err)
		}
		if o.driver != "" && o.driver != f.driver {
			return r, fmt.Errorf("storage option %s is for the driver %s, and this store has %s; leave it out: %w", key, o.driver, f.driver, snapshot.ErrInvalid)
		}
	}
	return r, nil
}

func setSize(r *rules, _ facts, value string) (err error) {
	r.size, err = parseSize(value)
	return err
}

func setLeastSize(r *rules, _ facts, value string) (err error) {
	r.leastSize, err = parseSize(value)
	return err
}

func parseSize(value string) (int64, error) {
	n, err := size.Parse(value)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", snapshot.ErrInvalid, err)
	}
	return n, nil
}

func setLeastFree(r *rules, _ facts, value string) error {
	number, ok := strings.CutSuffix(value, "%")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > 99 {
		return fmt.Errorf("%q is not 0%% to 99%%: %w", value, snapshot.ErrInvalid)
	}
	r.leastFree = n
	return nil
}

func sameFileSystem(_ *rules, f facts, value string) error {
	if value != f.fileSystem && f.driver == dmDriver {
		return fmt.Errorf("this store has %s; its file system is chosen by `blockstore init --fs ext4|xfs`: %w", f.fileSystem, snapshot.ErrNotSupported)
	}
	return nil
}

func sameBlockSize(_ *rules, f facts, value string) error {
	asked, err := parseSize(value)
	if err != nil {
		return err
	}
	have, err := size.Parse(f.rows["Pool Blocksize"])
	if f.driver == dmDriver && (err != nil || asked != have) {
		return fmt.Errorf("this store has blocks of %s, which cannot change: %w", f.rows["Pool Blocksize"], snapshot.ErrNotSupported)
	}
	return nil
}

func nothingToOverride(_ *rules, _ facts, value string) error {
	if _, err := strconv.ParseBool(value); err != nil {
		return fmt.Errorf("%q is neither true nor false: %w", value, snapshot.ErrInvalid)
	}
	return nil // udev is waited for where it runs, and needed nowhere
}

// room refuses a creation while too little is free, so that there is room to delete.
func (r rules) room(ctx context.Context, store *snapshot.Store) error {
	if r.leastFree == 0 {
		return nil
	}
	st, err := store.Driver().Status(ctx)
	if err != nil {
		return err
	}
	if err := r.enough("data", st.Data); err != nil {
		return err
	}
	return r.enough("metadata", st.Metadata)
}

func (r rules) enough(what string, s snapshot.Space) error {
	free := max(s.Total-s.Used, 0)
	if s.Total == 0 || free >= s.Total/100*int64(r.leastFree) {
		return nil
	}
	return fmt.Errorf("%d%% of the pool's %s space are free, and dm.min_free_space asks for %d%%: remove containers and images, or `blockstore pool extend`: %w",
		free*100/s.Total, what, r.leastFree, snapshot.ErrNoSpace)
}

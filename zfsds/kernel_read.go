package zfsds

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/ioctl"
	"blockstore.dev/blockstore/zfsds/nvlist"
)

func (k *kernel) get(_ context.Context, name string) (Details, error) {
	b, result, err := k.do(request{number: ioctl.ZFS_IOC_OBJSET_STATS, name: name, room: firstRoom, repeat: true})
	if err != nil {
		return Details{}, err
	}
	return detailsOf(datasetOf(b, name), result)
}

// keyAvailable is ZFS_KEYSTATUS_AVAILABLE of sys/fs/zfs.h.
const keyAvailable = 2

// detailsOf reads {property: {value, source}}.
func detailsOf(d Dataset, properties *nvlist.List) (Details, error) {
	details := Details{Dataset: d, User: map[string]UserProperty{}, KeyLoaded: true}
	numbers := map[string]uint64{}
	for name, value := range properties.All() {
		inner, ok := value.(*nvlist.List)
		if !ok {
			return details, fmt.Errorf("%w: property %s is a %T", ErrCorrupt, name, value)
		}
		if isUser(name) {
			u, err := userOf(inner)
			if err != nil {
				return details, fmt.Errorf("property %s: %w", name, err)
			}
			details.User[name] = u
			continue
		}
		if n, err := nvlist.Get[uint64](inner, "value"); err == nil {
			numbers[name] = n
		}
	}
	details.numbers(func(name string) Bytes { return Bytes(numbers[name]) })
	if status, ok := numbers["keystatus"]; ok && status != 0 {
		details.Encrypted, details.KeyLoaded = true, status == keyAvailable
	}
	return details, nil
}

func userOf(l *nvlist.List) (UserProperty, error) {
	value, err := nvlist.Get[string](l, "value")
	if err != nil {
		return UserProperty{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	source, err := nvlist.Get[string](l, "source")
	if err != nil {
		return UserProperty{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return UserProperty{Value: value, Source: source}, nil
}

// numbers fills in the sizes.
func (d *Details) numbers(get func(property string) Bytes) {
	d.Usage = Usage{
		Used: get("used"), Available: get("available"), Referenced: get("referenced"), LogicalReferenced: get("logicalreferenced"),
		Written: get("written"), UsedByDataset: get("usedbydataset"), UsedBySnapshots: get("usedbysnapshots"),
	}
	d.Limits = Limits{
		Quota: get("quota"), RefQuota: get("refquota"),
		Reservation: get("reservation"), RefReservation: get("refreservation"),
	}
}

func (k *kernel) writtenSince(_ context.Context, name, snapshot string) (Bytes, error) {
	b, _, err := k.do(request{number: ioctl.ZFS_IOC_SPACE_WRITTEN, name: name, value: snapshot, repeat: true})
	if err != nil {
		return 0, err
	}
	return Bytes(b.Cookie), nil
}

func (k *kernel) hold(_ context.Context, snapshot, tag string) error {
	holds := new(nvlist.List).Set(snapshot, tag)
	return k.each(ioctl.ZFS_IOC_HOLD, poolOf(snapshot), new(nvlist.List).Set("holds", holds))
}

func (k *kernel) release(_ context.Context, snapshot, tag string) error {
	holds := new(nvlist.List).Set(snapshot, flags([]string{tag}))
	return k.each(ioctl.ZFS_IOC_RELEASE, poolOf(snapshot), holds)
}

func (k *kernel) holds(_ context.Context, snapshot string) ([]string, error) {
	_, result, err := k.do(request{number: ioctl.ZFS_IOC_GET_HOLDS, name: snapshot, room: firstRoom, repeat: true})
	if err != nil {
		return nil, err
	}
	var tags []string
	for tag := range result.All() {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags, nil
}

func (k *kernel) sync(_ context.Context, pool string) error {
	return k.act(ioctl.ZFS_IOC_POOL_SYNC, pool, new(nvlist.List).Set("force", false))
}

// pools are the imported ones; the configuration of each is not looked at.
func (k *kernel) pools(context.Context) ([]string, error) {
	_, result, err := k.do(request{number: ioctl.ZFS_IOC_POOL_CONFIGS, room: firstRoom, repeat: true})
	if err == unix.EEXIST { // the given generation, 0, is the current one: there is no pool
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range result.All() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// states are vdev_state_t of sys/fs/zfs.h in the words of zpoolconcepts(7).
var states = []string{"UNKNOWN", "CLOSED", "OFFLINE", "REMOVED", "UNAVAIL", "FAULTED", "DEGRADED", "ONLINE"}

func (k *kernel) pool(_ context.Context, name string) (Pool, error) {
	_, result, err := k.do(request{number: ioctl.ZFS_IOC_POOL_GET_PROPS, name: name, room: firstRoom, repeat: true})
	if err != nil {
		return Pool{}, err
	}
	numbers := map[string]uint64{}
	for property, value := range result.All() {
		inner, ok := value.(*nvlist.List)
		if !ok {
			continue
		}
		if n, err := nvlist.Get[uint64](inner, "value"); err == nil {
			numbers[property] = n
		}
	}
	state := numbers["health"]
	if _, ok := numbers["size"]; !ok || state >= uint64(len(states)) {
		return Pool{}, fmt.Errorf("%w: the pool's properties: no size, or health %d", ErrCorrupt, state)
	}
	return Pool{
		Name: name, Health: states[state], Size: Bytes(numbers["size"]), Allocated: Bytes(numbers["allocated"]),
		Free: Bytes(numbers["free"]), Freeing: Bytes(numbers["freeing"]), Fragmentation: int(numbers["fragmentation"]),
	}, nil
}

// Close closes /dev/zfs.
func (k *kernel) Close() error { return k.file.Close() }

// byAge orders snapshots by their creation, and else by names: the module's cursor follows
// a hash.
func byAge(a, b Dataset) int {
	if a.Type == Snapshot && a.Created != b.Created {
		if a.Created < b.Created {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// errNoModule is an ErrNotSupported that says all there is to say.
var errNoModule error = noModule{}

type noModule struct{}

func (noModule) Error() string { return "no ZFS in this kernel" }

func (noModule) Is(target error) bool { return target == ErrNotSupported }

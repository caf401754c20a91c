package thinpool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"blockstore.dev/blockstore/dm"
	"blockstore.dev/blockstore/ioctl"
)

// A pool keeps its data device for life: the kernel refuses a table with another one. So the data of a pool on devices lie
// on a linear device of ours, which further devices are joined to. Each of them begins with a label, in a block of its
// own: device names change at boots, and a wrong one would be other data.

// Further is a device that was joined to a pool's data.
type Further struct {
	Path string `json:"path"`
	// Start is where it begins in the pool's data. What is before it stays as long as it was then.
	Start dm.Sectors `json:"start"`
}

// AddOptions say what is added to a pool on devices.
type AddOptions struct {
	// Path is a blank device.
	Path string
	// Force takes one that holds data of others, but none that is in use.
	Force bool
	// Keep makes the pool's new Config durable, before the device is used. Without it, nothing else would know the device.
	Keep func(Config) error
}

// AddData joins a further device to the data of a pool on devices, and grows the pool by it, as GrowData does. A device
// that was joined before is no error, and the pool takes its size. ErrInvalid for pools on files, and for those that were
// made without a device to join to.
func (p *Pool) AddData(ctx context.Context, o AddOptions) error {
	if err := p.addData(ctx, o); err != nil {
		return fmt.Errorf("adding %s to the data of pool %s: %w", o.Path, p.config.Name, err)
	}
	return nil
}

func (p *Pool) addData(ctx context.Context, o AddOptions) error {
	if err := p.own(); err != nil {
		return err
	}
	if !p.config.Joined {
		return fmt.Errorf("its data are not on devices that can be joined: %w", ErrInvalid)
	}
	p.reload.Lock()
	defer p.reload.Unlock()
	st, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if err := writable(st.ThinPoolStatus); err != nil {
		return err
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return err
	}
	c := p.Config()
	if known, err := c.has(path); err != nil {
		return err
	} else if !known {
		length, _, err := c.lengths()
		if err != nil {
			return err
		}
		c.Further = append(slices.Clone(c.Further), Further{Path: path, Start: dm.SectorsOf(length)})
		if c.labelled(len(c.Further)-1) != nil { // else a process died here
			if err := CheckBlank(path); err != nil && !(o.Force && errors.Is(err, ErrNotBlank)) {
				return err
			}
		}
		if err := c.label(len(c.Further) - 1); err != nil {
			return err
		}
		if err := o.Keep(c); err != nil {
			return errors.Join(err, wipeSuperblock(path))
		}
		p.further.Store(&c.Further)
	}
	backing, err := c.open(ctx, p.dm)
	if err != nil {
		return err
	}
	defer backing.close()
	return p.reloaded(ctx, backing)
}

// has says whether a device is one of the pool's.
func (c Config) has(path string) (bool, error) {
	n, err := dm.BlockDeviceNumber(path)
	if err != nil {
		return false, err
	}
	for _, f := range c.Further {
		if m, err := dm.BlockDeviceNumber(f.Path); err == nil && m == n {
			return true, nil
		}
	}
	return false, nil
}

// The label: magic, the pool's identity, which of the further devices it is, and a checksum.
const (
	labelMagic = "BLOCKSTORE-DATA\x00"
	labelSize  = 16 + 16 + 4 + 4
)

func (c Config) labelOf(i int) []byte {
	b := append([]byte(labelMagic), c.Identity[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(i))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (c Config) label(i int) error {
	f, err := os.OpenFile(c.Further[i].Path, os.O_RDWR|os.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("labelling: %w", err)
	}
	defer f.Close()
	size, err := ioctl.BlockSize(f)
	if err != nil {
		return err
	}
	if size < 2*c.BlockSize.Bytes() {
		return fmt.Errorf("it has no room for a block beside its label: %w", ErrInvalid)
	}
	b := make([]byte, superblockSize)
	copy(b, c.labelOf(i))
	return writeBlock0(f, b)
}

// labelled makes sure that a further device is the one that it was.
func (c Config) labelled(i int) error {
	f, err := os.Open(c.Further[i].Path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := readBlock0(f)
	if err != nil {
		return err
	}
	if !bytes.Equal(b[:labelSize], c.labelOf(i)) {
		return fmt.Errorf("%s is not the device that was added to pool %s: %w", c.Further[i].Path, c.Name, ErrForeign)
	}
	return nil
}

// joinedUUID and joinedName are the linear device's.
func (c Config) joinedUUID() string { return c.UUIDPrefix() + "data" }
func (c Config) joinedName() string { return c.Name + "-data" }

// joinedTable is the linear device's table over what the devices are long now.
func (c Config) joinedTable() (dm.Table, error) {
	var table dm.Table
	for i := -1; i < len(c.Further); i++ {
		path, skip := c.Data, dm.Sectors(0)
		if i >= 0 {
			path, skip = c.Further[i].Path, c.BlockSize
			if err := c.labelled(i); err != nil {
				return nil, err
			}
		}
		number, err := dm.BlockDeviceNumber(path)
		if err != nil {
			return nil, err
		}
		size, err := sizeOf(path)
		if err != nil {
			return nil, err
		}
		length := (dm.SectorsOf(size) - skip) / c.BlockSize * c.BlockSize
		if i+1 < len(c.Further) { // the next one begins where this one ended
			want := c.Further[i+1].Start - table.Length()
			if length < want {
				return nil, fmt.Errorf("%w: %s is too small: is it the right one?", ErrCorrupt, path)
			}
			length = want
		}
		if length == 0 {
			return nil, fmt.Errorf("%s is smaller than one block: %w", path, ErrInvalid)
		}
		table = table.Append(length, dm.Linear{Device: number, Offset: skip})
	}
	return table, nil
}

// join makes the linear device, or takes over the one that there is, with what has been added since.
func (c Config) join(ctx context.Context, client *dm.Client) (disk, error) {
	table, err := c.joinedTable()
	if err != nil {
		return disk{}, err
	}
	ref := dm.UUID(c.joinedUUID())
	info, err := client.Info(ctx, ref)
	if err == nil && !info.HasActive { // a process died before it had a table
		if _, err = client.Remove(ctx, ref, dm.RemoveOptions{}); err == nil {
			err = dm.ErrNotFound
		}
	}
	switch {
	case errors.Is(err, dm.ErrNotFound):
		info, err = client.CreateLoaded(ctx, c.joinedName(), c.joinedUUID(), table, dm.LoadOptions{})
		if errors.Is(err, dm.ErrExists) {
			err = fmt.Errorf("a device named %s: %w: %w", c.joinedName(), ErrForeign, err)
		}
	case err == nil:
		err = c.rejoin(ctx, client, table)
	}
	if err != nil {
		return disk{}, err
	}
	return disk{path: dm.Path(info.Dev), number: info.Dev}, nil
}

// rejoin gives the linear device its table anew if it is another.
func (c Config) rejoin(ctx context.Context, client *dm.Client, table dm.Table) error {
	ref := dm.UUID(c.joinedUUID())
	info, lines, err := client.Table(ctx, ref, dm.TableOptions{})
	if err != nil {
		return err
	}
	same := len(lines) == len(table) && !info.Suspended
	for i, line := range lines {
		same = same && line == table[i].Line()
	}
	if same {
		return nil
	}
	if _, err := client.Load(ctx, ref, table, dm.LoadOptions{}); err != nil {
		return err
	}
	_, err = client.Resume(context.WithoutCancel(ctx), ref)
	return err
}

// part takes the linear device away; while a pool is on it, it stays.
func (c Config) part(ctx context.Context, client *dm.Client) error {
	if !c.Joined {
		return nil
	}
	_, err := client.Remove(ctx, dm.UUID(c.joinedUUID()), dm.RemoveOptions{Wait: removeWait})
	if errors.Is(err, dm.ErrNotFound) {
		return nil
	}
	return err
}

// wipeLabels gives further devices back. One that is gone, or not ours any more, stays as it is.
func (c Config) wipeLabels() error {
	var errs []error
	for i, f := range c.Further {
		err := c.labelled(i)
		if err == nil {
			err = wipeSuperblock(f.Path)
		}
		if err != nil && !errors.Is(err, ErrForeign) && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sizeOf is the size of a file or device in bytes.
func sizeOf(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	end, err := f.Seek(0, 2)
	return uint64(end), errors.Join(err, f.Close())
}

// lengths are how much of what lies beneath could be used for data and for metadata, in bytes; the pool may be down.
func (c Config) lengths() (data, metadata uint64, err error) {
	if metadata, err = sizeOf(c.Metadata); err != nil {
		return 0, 0, err
	}
	if c.Joined {
		table, err := c.joinedTable()
		return table.Length().Bytes(), metadata, err
	}
	if data, err = sizeOf(c.Data); err != nil {
		return 0, 0, err
	}
	return data - data%c.BlockSize.Bytes(), metadata, nil
}

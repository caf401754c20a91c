package dm_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"testing"

	"blockstore.dev/blockstore/dm"
	"github.com/stretchr/testify/require"
)

// A device of 1 MiB whose first half is on a disk and whose second half fails.
func ExampleClient_CreateLoaded() {
	if err := halfBroken(context.Background(), "/dev/sdz"); err != nil {
		log.Print(err)
	}
}

func halfBroken(ctx context.Context, disk string) error {
	client, err := dm.Open(dm.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	number, err := dm.BlockDeviceNumber(disk)
	if err != nil {
		return err
	}
	half := dm.SectorsOf(512 << 10)
	table := dm.NewTable(half, dm.Linear{Device: number}).Append(half, dm.ErrorTarget{})
	info, err := client.CreateLoaded(ctx, "half-broken", "EXAMPLE-1", table, dm.LoadOptions{})
	if err != nil {
		return err
	}
	file, err := dm.OpenDevice(info.Dev, os.O_RDWR)
	if err == nil {
		_, err = file.WriteAt(make([]byte, 4096), 0)
		err = errors.Join(err, file.Close())
	}
	_, removed := client.Remove(ctx, dm.UUID("EXAMPLE-1"), dm.RemoveOptions{Deferred: true})
	return errors.Join(err, removed)
}

// A thin device in a pool, and a look at whether the pool is well after the message.
func ExampleClient_Message() {
	ctx := context.Background()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		log.Print(err)
		return
	}
	defer client.Close()
	pool := dm.Name("pool")
	if _, err := client.Message(ctx, pool, 0, dm.CreateThinMessage(1)); err != nil {
		log.Print(err)
		return
	}
	status, err := client.ThinPoolStatus(ctx, pool, dm.StatusOptions{NoFlush: true})
	if err != nil || !status.Healthy() {
		log.Print("it is not known whether the thin device exists: ", status, err)
	}
}

// Waiting for a pool to come near its end.
func ExampleWatcher() {
	ctx := context.Background()
	client, err := dm.Open(dm.Options{})
	if err != nil {
		log.Print(err)
		return
	}
	defer client.Close()
	watcher, err := client.Watch(dm.Prefix{UUID: "EXAMPLE-"})
	if err != nil {
		log.Print(err)
		return
	}
	defer watcher.Close()
	for {
		changes, err := watcher.Next(ctx)
		if err != nil {
			log.Print(err)
			return
		}
		for _, change := range changes {
			fmt.Println(change.Kind, change.Device.Name)
		}
	}
}

func ExampleTable() {
	disk := dm.Number{Major: 8, Minor: 16}
	table := dm.NewTable(2048, dm.Linear{Device: disk, Offset: 100}).
		Append(1024, dm.Zero{})
	for _, row := range table {
		fmt.Println(row.Line())
	}
	// Output:
	// 0 2048 linear 8:16 100
	// 2048 1024 zero
}

func ExampleParseThinPoolStatus() {
	status, err := dm.ParseThinPoolStatus("7 112/1024 16/16 - out_of_data_space discard_passdown error_if_no_space - 256")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status.Mode, status.DataUsed, "of", status.DataTotal, "blocks, messages still work:", status.Healthy())
	_, err = dm.ParseThinPoolStatus("7 112/1024 16/16 - confused discard_passdown error_if_no_space -")
	fmt.Println(err)
	// Output:
	// out_of_data_space 16 of 16 blocks, messages still work: true
	// thin-pool status: unknown device-mapper text: mode is "confused"
}

func ExampleParseTarget() {
	target, err := dm.ParseTarget("thin-pool", "254:0 7:1 128 32768 1 error_if_no_space ")
	if err != nil {
		fmt.Println(err)
		return
	}
	pool, _ := target.(dm.ThinPool)
	fmt.Println(pool.BlockSize.Bytes(), pool.LowWater, pool.ErrorIfNoSpace)
	// Output: 65536 32768 true
}

// TestKernelExample: the example works as written, on a loop device.
func TestKernelExample(t *testing.T) {
	newLab(t)
	disk := loop(t, 1<<20)
	require.NoError(t, halfBroken(t.Context(), fmt.Sprintf("/dev/loop%d", disk.Minor)))
}

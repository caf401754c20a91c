package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// records are all of a bucket.
func records(t *testing.T, c *catalog, bucket []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, c.view(func(t *tx) error {
		return t.each(bucket, "", func(k string, v []byte) error { all[k] = string(v); return nil })
	}))
	return all
}

func opened(t *testing.T, path string) *catalog {
	t.Helper()
	c, err := openCatalog(path)
	require.NoError(t, err)
	return c
}

func set(key, value string) func(*tx) error {
	return func(t *tx) error { return t.set(bucketDoors, key, []byte(value)) }
}

// TestCatalogAfterPowerCuts makes, of a catalog in work, what a disk may hold after a power
// cut: the journal, and of each page of the catalog's file either what the last checkpoint
// wrote or what was written since. All that was committed must be there.
func TestCatalogAfterPowerCuts(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	path := filepath.Join(dir, catalogFile)
	c := opened(t, path)
	model := map[string]string{}
	durable := read(t, path)
	for cut := range 50 {
		for range random.IntN(30) {
			if c.journal.end > journalSize-8*journalBlock {
				require.NoError(t, c.checkpoint())
				durable = read(t, path)
			}
			key := fmt.Sprint("key ", random.IntN(200))
			if random.IntN(3) == 0 {
				require.NoError(t, c.update(func(t *tx) error { return t.remove(bucketDoors, key) }))
				delete(model, key)
				continue
			}
			value := strings.Repeat("v", random.IntN(9000))
			require.NoError(t, c.update(set(key, value)))
			model[key] = value
		}
		now := read(t, path)
		for at := 0; at < len(now); at += journalBlock {
			if random.IntN(2) == 0 {
				clear(now[at : at+journalBlock])
				if at < len(durable) {
					copy(now[at:at+journalBlock], durable[at:])
				}
			}
		}
		after := filepath.Join(dir, fmt.Sprint("cut", cut))
		require.NoError(t, os.Mkdir(after, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(after, catalogFile), now, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(after, journalFile), read(t, filepath.Join(dir, journalFile)), 0o600))
		again := opened(t, filepath.Join(after, catalogFile))
		require.Equal(t, model, records(t, again, bucketDoors), "cut %d", cut)
		for range 3 { // it can be used, and be opened after that
			require.NoError(t, again.update(set("more", "of it")))
		}
		require.NoError(t, again.close())
		again = opened(t, filepath.Join(after, catalogFile))
		want := maps.Clone(model)
		want["more"] = "of it"
		require.Equal(t, want, records(t, again, bucketDoors))
		require.NoError(t, again.close())
		require.NoError(t, os.RemoveAll(after))
		if cut%5 == 0 {
			generation := c.journal.head.Generation
			require.NoError(t, c.close())
			closed := read(t, path)
			c = opened(t, path)
			if c.journal.head.Generation != generation {
				durable = closed
			}
		}
	}
	require.Greater(t, c.journal.head.Generation, uint64(5), "checkpoints")
	require.NoError(t, c.close())
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return raw
}

// TestJournalTorn cuts the last record short, at each of its blocks and in its head.
func TestJournalTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), catalogFile)
	c := opened(t, path)
	require.NoError(t, c.update(set("first", "1")))
	end := c.journal.end
	require.NoError(t, c.update(set("second", strings.Repeat("2", 3*journalBlock))))
	require.NoError(t, c.close())
	journal := filepath.Join(filepath.Dir(path), journalFile)
	whole := read(t, journal)
	for _, at := range []int64{0, 8, 16, 20, 24, journalBlock, 2 * journalBlock, 3 * journalBlock} {
		torn := append([]byte{}, whole...)
		torn[end+at] ^= 1
		require.NoError(t, os.WriteFile(journal, torn, 0o600))
		c = opened(t, path)
		require.Equal(t, map[string]string{"first": "1"}, records(t, c, bucketDoors), "byte %d", at)
		require.NoError(t, c.close())
	}
}

// TestLazyCommit: what is committed lazily outlives the process at once, and a power cut, which leaves the journal what it
// was or any part of what was written since, from the next commit on, also where the kernel has dropped what it could not write.
func TestLazyCommit(t *testing.T) {
	dir := t.TempDir()
	path, journal := filepath.Join(dir, catalogFile), filepath.Join(dir, journalFile)
	c := opened(t, path)
	require.NoError(t, c.update(set("first", "1")))
	catalogBefore, journalBefore := read(t, path), read(t, journal)
	found := func(name string, catalog, journal []byte) map[string]string {
		after := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(after, 0o700))
		at := filepath.Join(after, catalogFile)
		require.NoError(t, errors.Join(os.WriteFile(at, catalog, 0o600), os.WriteFile(filepath.Join(after, journalFile), journal, 0o600)))
		again := opened(t, at)
		defer func() { require.NoError(t, again.close()) }()
		return records(t, again, bucketDoors)
	}

	begin := c.journal.end
	require.NoError(t, c.updateLazily(set("lazy", strings.Repeat("2", 2*journalBlock))))
	middle := c.journal.end
	require.NoError(t, c.updateLazily(set("lazier", "3")))
	require.Len(t, c.journal.owed, int(c.journal.end-begin))
	states := []map[string]string{{"first": "1"}, maps.Clone(records(t, c, bucketDoors)), records(t, c, bucketDoors)}
	delete(states[1], "lazier")
	catalogNow, journalNow := read(t, path), read(t, journal)
	require.Equal(t, states[2], found("killed", catalogNow, journalNow))
	require.Equal(t, states[0], found("cut", catalogBefore, journalBefore))
	for lost := begin; lost < c.journal.end; lost += journalBlock { // each block, alone
		torn := append([]byte{}, journalNow...)
		copy(torn[lost:lost+journalBlock], journalBefore[lost:])
		want := states[0]
		if lost >= middle {
			want = states[1]
		}
		require.Equal(t, want, found(fmt.Sprint("cut at ", lost), catalogNow, torn))
	}

	require.NoError(t, os.WriteFile(journal, journalBefore, 0o600)) // as if the disk had refused it
	require.NoError(t, c.update(set("last", "4")))
	require.Empty(t, c.journal.owed)
	states[2]["last"] = "4"
	require.Equal(t, states[2], found("cut later", catalogBefore, read(t, journal)))

	// What is taken back of what is owed takes nothing else with it.
	require.NoError(t, c.updateLazily(set("owed", "5")))
	var late changes
	late.add(changeSet, bucketDoors, []byte("late"), []byte("6"))
	require.NoError(t, c.journal.append(late, true))
	require.NoError(t, c.journal.drop(late))
	states[2]["owed"] = "5"
	require.Equal(t, states[2], found("dropped", catalogBefore, read(t, journal)))
	require.NoError(t, c.checkpoint())
	require.NoError(t, c.close())
	c = opened(t, path)
	require.Equal(t, states[2], records(t, c, bucketDoors))
	require.NoError(t, c.close())
}

// TestRefusedCommit: what the journal could not be given has not happened, now or after
// another open, and does not keep others from happening.
func TestRefusedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), catalogFile)
	c := opened(t, path)
	require.NoError(t, c.update(set("first", "1")))
	working := c.journal.file
	var err error
	c.journal.file, err = os.OpenFile("/dev/full", os.O_RDWR, 0)
	require.NoError(t, err)
	err = c.update(set("refused", "1"))
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorIs(t, err, ErrNoSpace)
	require.NoError(t, c.journal.file.Close())
	c.journal.file = working
	require.Equal(t, map[string]string{"first": "1"}, records(t, c, bucketDoors))
	require.NoError(t, c.update(set("second", "2")))
	require.NoError(t, c.close())
	c = opened(t, path)
	require.Equal(t, map[string]string{"first": "1", "second": "2"}, records(t, c, bucketDoors))

	// One that the catalog's file refused after the journal had it.
	var late changes
	late.add(changeSet, bucketDoors, []byte("late"), []byte("1"))
	require.NoError(t, c.journal.append(late, false))
	require.NoError(t, c.journal.drop(late))
	require.NoError(t, c.close())
	c = opened(t, path)
	require.Equal(t, map[string]string{"first": "1", "second": "2"}, records(t, c, bucketDoors))
	require.NoError(t, c.close())
}

// TestLargeCommit: more than the journal has room for.
func TestLargeCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), catalogFile)
	c := opened(t, path)
	large := strings.Repeat("large", journalSize)
	require.NoError(t, c.update(set("large", large)))
	require.NoError(t, c.update(set("small", "1")))
	require.NoError(t, c.close())
	c = opened(t, path)
	require.Equal(t, map[string]string{"large": large, "small": "1"}, records(t, c, bucketDoors))
	require.NoError(t, c.close())
}

// TestPartedCatalog: catalog and journal of different copies are refused, and stay as they are.
func TestPartedCatalog(t *testing.T) {
	path := filepath.Join(t.TempDir(), catalogFile)
	journal := filepath.Join(filepath.Dir(path), journalFile)
	c := opened(t, path)
	require.NoError(t, c.update(func(t *tx) error { return t.putHeader(header{Version: catalogVersion, StoreID: "it"}) }))
	require.NoError(t, c.close())
	old, oldJournal := read(t, path), read(t, journal)

	c = opened(t, path)
	require.NoError(t, c.update(set("new", "1")))
	require.NoError(t, c.checkpoint())
	require.NoError(t, c.update(set("newer", "1")))
	require.NoError(t, c.close())
	now, nowJournal := read(t, path), read(t, journal)

	for name, pair := range map[string][2][]byte{
		"an older catalog": {old, nowJournal}, "no journal": {now, nil}, "a damaged journal": {now, make([]byte, journalSize)},
	} {
		require.NoError(t, errors.Join(os.WriteFile(path, pair[0], 0o600), os.WriteFile(journal, pair[1], 0o600)))
		if pair[1] == nil {
			require.NoError(t, os.Remove(journal))
		}
		_, err := openCatalog(path)
		require.ErrorIs(t, err, ErrCorrupt, name)
		require.ErrorContains(t, err, "put both back from one copy", name)
		require.Equal(t, pair[0], read(t, path), name)
		if pair[1] == nil {
			require.NoFileExists(t, journal)
		} else {
			require.Equal(t, pair[1], read(t, journal), name)
		}
	}
	for name, pair := range map[string][2][]byte{"the older pair": {old, oldJournal}, "the newer pair": {now, nowJournal}} {
		require.NoError(t, errors.Join(os.WriteFile(path, pair[0], 0o600), os.WriteFile(journal, pair[1], 0o600)))
		c := opened(t, path)
		require.Len(t, records(t, c, bucketDoors), map[bool]int{true: 0, false: 2}[name == "the older pair"], name)
		require.NoError(t, c.close())
	}
}

// TestCatalogWithoutJournal: one that an older program made gets a journal.
func TestCatalogWithoutJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), catalogFile)
	c := opened(t, path)
	require.NoError(t, c.update(func(t *tx) error { return t.putHeader(header{Version: versionJournal - 1, StoreID: "it"}) }))
	require.NoError(t, c.update(set("old", "1")))
	require.NoError(t, c.checkpoint())
	require.NoError(t, c.close())
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(path), journalFile)))
	c = opened(t, path)
	require.NoError(t, c.update(set("new", "1")))
	require.NoError(t, c.close())
	c = opened(t, path)
	require.Equal(t, map[string]string{"old": "1", "new": "1"}, records(t, c, bucketDoors))
	require.NoError(t, c.close())
}

package metadata

// counts holds a number from 0 to 3 for each of many blocks; 3 means three or more. Pages of it are made when they
// are first used.
type counts struct {
	pages [][]byte
}

const (
	pageCounts = 1 << 18 // in 64 KiB
	maxCount   = 3
)

func newCounts(blocks uint64) *counts {
	return &counts{pages: make([][]byte, (blocks+pageCounts-1)/pageCounts)}
}

func (c *counts) get(i uint64) int {
	page := c.pages[i/pageCounts]
	if page == nil {
		return 0
	}
	i %= pageCounts
	return int(page[i/4] >> (i % 4 * 2) & maxCount)
}

// add counts one more and returns the count before.
func (c *counts) add(i uint64) int {
	p := &c.pages[i/pageCounts]
	if *p == nil {
		*p = make([]byte, pageCounts/4)
	}
	i %= pageCounts
	b, shift := &(*p)[i/4], i%4*2
	before := int(*b >> shift & maxCount)
	if before < maxCount {
		*b += 1 << shift
	}
	return before
}

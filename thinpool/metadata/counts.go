package metadata

import "slices"

// counts holds a number from 0 to 3 for each of many blocks; 3 means three or more. A page of them is a list of those
// that are not 0, until there are so many that two bits for each block take less: a pool may have far more data blocks
// than its metadata could map, and what is mapped may lie anywhere among them.
type counts struct {
	pages [][]uint16
}

const (
	pageCounts = 1 << 14
	countBits  = 2
	maxCount   = 1<<countBits - 1

	perWord = 16 / countBits
	// fullPage is the length of a page that has two bits for each block. A shorter one is a list, in order, of places
	// in the page with the count below.
	fullPage  = pageCounts / perWord
	maxListed = fullPage / 4
)

func newCounts(blocks uint64) *counts {
	return &counts{pages: make([][]uint16, (blocks+pageCounts-1)/pageCounts)}
}

func (c *counts) get(i uint64) int {
	page, at := c.pages[i/pageCounts], uint16(i%pageCounts)
	if len(page) == fullPage {
		return int(page[at/perWord] >> (at % perWord * countBits) & maxCount)
	}
	if n := listed(page, at); n < len(page) && page[n]>>countBits == at {
		return int(page[n] & maxCount)
	}
	return 0
}

// add counts one more and returns the count before.
func (c *counts) add(i uint64) int {
	p, at := &c.pages[i/pageCounts], uint16(i%pageCounts)
	if len(*p) == fullPage {
		return increase(&(*p)[at/perWord], at%perWord*countBits)
	}
	n := listed(*p, at)
	if n < len(*p) && (*p)[n]>>countBits == at {
		return increase(&(*p)[n], 0)
	}
	if len(*p) == maxListed {
		*p = full(*p)
		return c.add(i)
	}
	*p = slices.Insert(*p, n, at<<countBits|1)
	return 0
}

// increase adds one to the count in a word, up to 3, and returns the count before.
func increase(word *uint16, shift uint16) int {
	before := *word >> shift & maxCount
	if before < maxCount {
		*word += 1 << shift
	}
	return int(before)
}

// listed is where a list has a place, or would have it.
func listed(list []uint16, at uint16) int {
	n, _ := slices.BinarySearch(list, at<<countBits)
	return n
}

// full is a list's page with two bits for each block.
func full(list []uint16) []uint16 {
	page := make([]uint16, fullPage)
	for _, l := range list {
		at := l >> countBits
		page[at/perWord] |= l & maxCount << (at % perWord * countBits)
	}
	return page
}

// counted goes through the blocks whose count is not 0.
func (c *counts) counted(yield func(uint64) bool) {
	for p, page := range c.pages {
		first := uint64(p) * pageCounts
		for i, word := range page {
			if len(page) < fullPage {
				if !yield(first + uint64(word>>countBits)) {
					return
				}
				continue
			}
			for at := first + uint64(i)*perWord; word != 0; at, word = at+1, word>>countBits {
				if word&maxCount != 0 && !yield(at) {
					return
				}
			}
		}
	}
}

// without is the number of blocks that are counted here and not there.
func (c *counts) without(there *counts) (n uint64) {
	for block := range c.counted {
		if there.get(block) == 0 {
			n++
		}
	}
	return n
}

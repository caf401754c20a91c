package nvlist

import (
	"fmt"
	"iter"
	"slices"
)

// Flag is the value of a pair that has none: its presence is what it says.
type Flag struct{}

// Byte is a value of DATA_TYPE_BYTE, which is not the type of numbers of 8 bits.
type Byte byte

// Time is a value of DATA_TYPE_HRTIME, in nanoseconds.
type Time int64

// Uint8s is an array of numbers of 8 bits, as opposed to a string of bytes.
type Uint8s []uint8

// List is a list of named values, in order. Its zero value is an empty list. It may
// be read concurrently, not written to.
type List struct {
	pairs []pair
}

type pair struct {
	name  string
	value any
}

// Set gives a name its value, at its old place if the list has the name already, and
// returns the list. Marshal refuses values of types that the package comment does not
// list.
func (l *List) Set(name string, value any) *List {
	if i := l.index(name); i >= 0 {
		l.pairs[i].value = value
	} else {
		l.pairs = append(l.pairs, pair{name, value})
	}
	return l
}

// index is linear: lists that are built are short. Unmarshal does not use it.
func (l *List) index(name string) int {
	return slices.IndexFunc(l.pairs, func(p pair) bool { return p.name == name })
}

// Len is the number of pairs; a nil list has none.
func (l *List) Len() int {
	if l == nil {
		return 0
	}
	return len(l.pairs)
}

// All gives the pairs in order.
func (l *List) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for i := range l.Len() {
			if !yield(l.pairs[i].name, l.pairs[i].value) {
				return
			}
		}
	}
}

// Has tells whether there is a pair of that name, of whatever type.
func (l *List) Has(name string) bool { return l != nil && l.index(name) >= 0 }

// Get finds the value of a name. An absent name or a value of another type is an
// error that says so.
func Get[T any](l *List, name string) (T, error) {
	var none T
	if !l.Has(name) {
		return none, fmt.Errorf("nvlist: no pair %q", name)
	}
	value, ok := l.pairs[l.index(name)].value.(T)
	if !ok {
		return none, fmt.Errorf("nvlist: pair %q is a %T, not a %T", name, l.pairs[l.index(name)].value, none)
	}
	return value, nil
}

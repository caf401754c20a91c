package dm

import (
	"fmt"
	"strings"
)

// words reads a text of the kernel word by word. The first error stays; what is read
// after it is zero.
type words struct {
	what string // what the text is: "thin-pool status"
	rest []string
	err  error
}

func newWords(what, text string) *words {
	return &words{what: what, rest: strings.Fields(text)}
}

func (w *words) more() bool { return w.err == nil && len(w.rest) > 0 }

// next is the next word; its absence is an error that names the field.
func (w *words) next(field string) string {
	if w.err != nil {
		return ""
	}
	if len(w.rest) == 0 {
		w.err = fmt.Errorf("%s: %w: %s is missing", w.what, ErrSyntax, field)
		return ""
	}
	word := w.rest[0]
	w.rest = w.rest[1:]
	return word
}

// fail records that a field's value is not in the grammar.
func (w *words) fail(field, value string) {
	if w.err == nil {
		w.err = fmt.Errorf("%s: %w: %s is %q", w.what, ErrSyntax, field, value)
	}
}

// check records an error of a value that was read whole.
func (w *words) check(err error) {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("%s: %w: %w", w.what, ErrSyntax, err)
	}
}

func (w *words) number(field string, bits int) uint64 {
	word := w.next(field)
	if w.err != nil {
		return 0
	}
	value, err := parseUint(word, bits)
	if err != nil {
		w.fail(field, word)
	}
	return value
}

// ratio reads "used/total".
func (w *words) ratio(field string) (used, total uint64) {
	word := w.next(field)
	if w.err != nil {
		return 0, 0
	}
	before, after, ok := strings.Cut(word, "/")
	used, errUsed := parseUint(before, 64)
	total, errTotal := parseUint(after, 64)
	if !ok || errUsed != nil || errTotal != nil {
		w.fail(field, word)
	}
	return used, total
}

func (w *words) device(field string) Number {
	word := w.next(field)
	if w.err != nil {
		return Number{}
	}
	number, err := ParseNumber(word)
	if err != nil {
		w.fail(field, word)
	}
	return number
}

// end is the error of the whole text, which a superfluous word is too.
func (w *words) end() error {
	if w.more() {
		w.fail("superfluous word", w.rest[0])
	}
	return w.err
}

// oneOf reads a word that must be one of a kind's words and returns its index.
func oneOf[T ~int](w *words, field string, names []string) T {
	word := w.next(field)
	if w.err != nil {
		return 0
	}
	for i, name := range names {
		if name != "" && name == word {
			return T(i)
		}
	}
	w.fail(field, word)
	return 0
}

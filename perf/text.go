package perf

// Text writes one value with its unit.
func (u Unit) Text(v float64) string {
	text, name := u.scaled(v)
	return text(v) + name
}

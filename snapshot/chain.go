package snapshot

// chainBytes is what a layer and those below it hold, as Usage.Added counts it, and whether that is their last word: a
// layer that is not sealed yet is counted when it is. It reads as many records as there are layers down to one that
// knows its sum.
func (t *tx) chainBytes(in Info) (sum int64, final bool, err error) {
	for final = true; ; {
		if in.ChainBytes != nil {
			return sum + *in.ChainBytes, final, nil
		}
		sum += in.Usage.Added
		final = final && in.Volume.Sealed
		if in.Parent == "" {
			return sum, final, nil
		}
		if in, err = t.snapshot(in.Parent); err != nil {
			return 0, false, err
		}
	}
}

// sumUp gives a layer that is about to be put its sum, if that is final.
func (t *tx) sumUp(in *Info) error {
	in.ChainBytes = nil
	sum, final, err := t.chainBytes(*in)
	if err == nil && final {
		in.ChainBytes = &sum
	}
	return err
}

// below is what the layers under a container hold.
func (s *Store) below(in Info) (bytes int64, err error) {
	if in.Parent == "" {
		return 0, nil
	}
	err = s.cat.view(func(t *tx) error {
		p, err := t.snapshot(in.Parent)
		if err == nil {
			bytes, _, err = t.chainBytes(p)
		}
		return err
	})
	return bytes, err
}

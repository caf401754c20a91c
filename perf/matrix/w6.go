package matrix

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// burst is W6: many containers at once, as after a reboot or a rollout.
func burst() workload {
	return workload{
		name:    "W6",
		title:   "burst: containers of one layer made by 1, 8 and 32 goroutines, until the last is made",
		counted: inFull,
		prepare: func(ctx context.Context, s *stand) error { return s.Layer(ctx, small, "", fillSmall) },
		round: func(ctx context.Context, s *stand) error {
			for _, n := range goroutines() {
				if err := s.burst(ctx, n); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func goroutines() []int { return []int{1, 8, 32} }

func rowBurst(containers, goroutines int) measure {
	return scaled(fmt.Sprintf("%d creates", containers), float64(goroutines), "goroutines")
}

func (s *stand) burst(ctx context.Context, workers int) error {
	names := make([]string, s.scale.Burst)
	for i := range names {
		names[i] = s.name("burst")
	}
	err := s.timed(rowBurst(len(names), workers).withDisks(), func() error {
		return each(names, workers, func(name string) error { return s.Create(ctx, name, small) })
	})
	if err != nil {
		return err
	}
	return each(names, 1, func(name string) error { return s.Remove(ctx, name) })
}

// each has workers do something with all names. After an error nobody begins another.
func each(names []string, workers int, do func(name string) error) error {
	var wg sync.WaitGroup
	work := make(chan string, len(names))
	for _, name := range names {
		work <- name
	}
	close(work)
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			for name := range work {
				if errs[i] = do(name); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

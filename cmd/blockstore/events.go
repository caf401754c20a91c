package main

import (
	"fmt"

	"blockstore.dev/blockstore/image"
)

// events shows the events of loading and saving as tasks. finish ends them; it
// must be called.
func (a *app) events() (show func(image.Event), finish func()) {
	p := a.newProgress()
	type key struct {
		stage image.Stage
		image string
		layer int
	}
	open := map[key]task{}
	show = func(e image.Event) {
		k := key{e.Stage, e.Image, e.Layer}
		t, ok := open[k]
		if !ok {
			t = p.Task(eventName(e))
			open[k] = t
		}
		t.At(e.Done, e.Total)
		if e.Finished {
			t.Done(eventEnd(e))
			delete(open, k)
		}
	}
	return show, p.Close
}

func eventName(e image.Event) string {
	if e.Stage == image.StageSpool {
		return "reading"
	}
	verbs := map[image.Stage]string{image.StageHash: "hashing", image.StageUnpack: "unpacking", image.StageWrite: "writing"}
	name := fmt.Sprintf("%s %s layer %d/%d", verbs[e.Stage], short(e.Image), e.Layer+1, e.Layers)
	if e.DiffID != "" {
		name += " " + short(string(e.DiffID))
	}
	return name
}

func eventEnd(e image.Event) string {
	if e.Known {
		return "already there"
	}
	return "done"
}

package records

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A new bundle and a removed one are signalled; the end of the context closes
// the channel.
func TestWatch(t *testing.T) {
	x := newTree(t)
	x.Mkdir("task/moby")
	x.list() // the index has the directory now
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := x.store.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	signalled := func(after string) bool {
		select {
		case _, open := <-changes:
			return open
		case <-time.After(time.Minute):
			t.Fatalf("no signal %s", after)
			return false
		}
	}
	file := x.bundle("moby", id(1), "/docker/"+id(1))
	if !signalled("of a bundle") {
		t.Error("the channel closed")
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if !signalled("that a bundle went") {
		t.Error("the channel closed")
	}
	cancel()
	for signalled("of the end") {
	}
}

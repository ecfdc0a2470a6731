package records

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// rescanInterval is how often new directories are added to a watch: an engine makes
// its own when it is started.
const rescanInterval = 5 * time.Second

// Watch signals, without delay, that something changed in a directory of records: a
// container was made, or is gone. List then shows what changed; the record of a
// container that is being made follows some milliseconds later. One signal may stand
// for many changes. The channel is closed when ctx ends.
func (s *Store) Watch(ctx context.Context) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch records: %w", err)
	}
	s.watchDirs(w) // before it returns: what happens from then on is signalled
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		defer w.Close()
		again := time.NewTicker(rescanInterval)
		defer again.Stop()
		for ; ; s.watchDirs(w) {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
				continue
			case _, open := <-w.Errors: // an overflow: something changed
				if !open {
					return
				}
			case _, open := <-w.Events:
				if !open {
					return
				}
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}

// watchDirs adds the directories that the index listed and that exist.
func (s *Store) watchDirs(w *fsnotify.Watcher) {
	watched := make(map[string]bool)
	for _, dir := range w.WatchList() {
		watched[dir] = true
	}
	s.scan.Lock()
	defer s.scan.Unlock()
	for dir := range s.index.dirs {
		if !watched[dir] {
			w.Add(dir) // one that does not exist yet is added when it does
		}
	}
}

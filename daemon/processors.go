package daemon

import (
	"os"
	"runtime"
)

// spareProcessor lets one goroutine more run at once than there are processors. Long work
// (hashing of files, package hashing; a flood of connections, package door) leaves places
// to others. Whoever calls finds one, and the kernel lets its thread run
// within a few milliseconds. Without the spare one, Go's scheduler looks at sockets every
// 10 ms while all places are taken.
//
// An administrator's GOMAXPROCS= stays.
func spareProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

package daemon

import (
	"os"
	"runtime"
)

// spareProcessor lets one goroutine more run at once than there are processors. Long work
// leaves places to others: hashing of files (package hashing) two, a flood of connections
// (package door) one. Whoever calls finds a place, and the kernel lets its thread run within a
// few milliseconds. Where all places are taken, Go looks at sockets only every 10 ms.
//
// An administrator's GOMAXPROCS= stays.
func spareProcessor() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

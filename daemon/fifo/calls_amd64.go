package fifo

import "golang.org/x/sys/unix"

// Calls that newer architectures have no more.
const (
	sysOpen   = unix.SYS_OPEN
	sysSelect = unix.SYS_SELECT
)

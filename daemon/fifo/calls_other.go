//go:build !amd64

package fifo

// Calls that these architectures don't have.
const (
	sysOpen   = 1<<64 - 1
	sysSelect = 1<<64 - 2
)

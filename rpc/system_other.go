//go:build !unix

package rpc

import (
	"net"
	"syscall"
)

// hungUp can't be told here: only a server, which runs on Linux, wants to know.
func hungUp(net.Conn) bool { return false }

// errnoName is "": error numbers of the kernel that cimad runs on have no name
// here.
func errnoName(syscall.Errno) string { return "" }

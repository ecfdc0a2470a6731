//go:build !unix

package rpc

import (
	"net"
	"syscall"
)

// hungUp is false: without poll(2) a closed connection shows at the next write.
func hungUp(net.Conn) bool { return false }

// errnoName is "": the error numbers of Linux, which cimad runs on, have no names here.
func errnoName(syscall.Errno) string { return "" }

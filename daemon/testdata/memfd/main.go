// Memfd executes a copy of a program that lies in memory alone.
package main

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	b, err := os.ReadFile(os.Args[1])
	if err == nil {
		var fd int
		if fd, err = unix.MemfdCreate("program", 0); err == nil {
			if _, err = os.NewFile(uintptr(fd), "memfd").Write(b); err == nil {
				err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), os.Args[1:], nil)
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

package command

import (
	"os"

	"golang.org/x/sys/unix"
)

// columns asks the terminal how wide it is.
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

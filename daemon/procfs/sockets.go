package procfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxSocketLine bounds a line of net/unix: a path of a socket has at most 108 bytes.
const maxSocketLine = 4096

// SocketPaths yields the absolute paths to which sockets of a process's network namespace
// are bound (proc_net(5), unix). The process is given as its directory of /proc. A path is
// as it was given to bind(2): where it leads now, and in whose root directory, is not known.
//
// Connections have the path of the socket that took them, so a path may come again. What
// a path holds behind a newline is not yielded.
func SocketPaths(process string, yield func(name string)) error {
	file := filepath.Join(process, "net/unix")
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := socketPaths(f, yield); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// socketPaths reads lines such as
//
//	0000000000000000: 00000002 00000000 00010000 0001 01 20516 /run/docker.sock
//
// behind the line that names the columns.
func socketPaths(r io.Reader, yield func(name string)) error {
	lines := bufio.NewReaderSize(r, maxSocketLine)
	for first := true; ; first = false {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return err // a line without an end, too
		}
		const columns = 7
		rest := bytes.TrimSuffix(line, []byte("\n"))
		for range columns {
			rest = bytes.TrimLeft(rest, " ")
			_, rest, _ = bytes.Cut(rest, []byte(" "))
		}
		if !first && len(rest) > 0 && rest[0] == '/' {
			yield(string(rest))
		}
	}
}

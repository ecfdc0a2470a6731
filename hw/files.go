//go:build linux

package hw

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files are the operations on the kernel's files that TDX needs. Each is one
// attempt: nothing is created, truncated or tried again, as package os does,
// because the kernel acts on every read and write of these files. Errors hold a
// syscall.Errno.
type Files interface {
	Access(path string, write bool) error          // nil: there, and permitted
	Read(path string, limit int) ([]byte, error)   // to its end; EFBIG above limit
	Write(path string, data []byte) (int, error)   // one write(2) at offset 0
	List(path string, limit int) ([]string, error) // names in a directory
	Mkdir(path string) error
	Remove(path string) error // a directory
}

// kernelFiles are the kernel's own.
type kernelFiles struct{}

func (kernelFiles) Access(path string, write bool) error {
	mode := uint32(unix.R_OK)
	if write {
		mode = unix.W_OK
	}
	return unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
}

func (kernelFiles) Read(path string, limit int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, min(limit, 16<<10)+1)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b, nil
		}
		if b = b[:len(b)+n]; len(b) > limit {
			return nil, syscall.EFBIG
		}
	}
}

func (kernelFiles) Write(path string, data []byte) (int, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.Write(fd, data)
}

func (kernelFiles) List(path string, limit int) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, _ := f.Readdirnames(limit) // what could be read is what there is
	return names, nil
}

func (kernelFiles) Mkdir(path string) error  { return unix.Mkdir(path, 0o700) }
func (kernelFiles) Remove(path string) error { return unix.Rmdir(path) }

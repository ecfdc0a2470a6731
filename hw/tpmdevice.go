//go:build linux

package hw

import (
	"io"

	"golang.org/x/sys/unix"
)

// tpmDevice is a connection to a TPM by the kernel's driver, which executes a command during
// write(2). The descriptor must block: a read of one that doesn't gives nothing until the TPM
// answered, and nothing looks like the end. So it is not package os', which would make it so.
type tpmDevice struct{ fd int }

func openTPM(path string) (io.ReadWriteCloser, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return tpmDevice{fd}, nil
}

// Write executes a command. No signal interrupts it: a driver that is interrupted cancels the
// command, and whether it was done is not known.
func (d tpmDevice) Write(b []byte) (n int, err error) {
	done := make(chan struct{})
	withoutSignals(func() {
		defer close(done)
		n, err = unix.Write(d.fd, b)
	})
	<-done
	return max(n, 0), err
}

func (d tpmDevice) Read(b []byte) (n int, err error) {
	if n, err = unix.Read(d.fd, b); err == nil && n == 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

func (d tpmDevice) Close() error { return unix.Close(d.fd) }

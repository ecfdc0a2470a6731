package attack

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// copyTo makes a program of the attacker's own, of a size.
func copyTo(path string, size int64) error {
	from, err := os.Open("/attacker")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if info, err := to.Stat(); err == nil && info.Size() < size {
		return to.Truncate(size)
	}
	return nil
}

// leases executes a file of the attacker's on which the attacker has a write lease: who
// opens the file waits until the lease is broken.
func leases(args []string) error {
	var rounds int
	if err := numbers(args, &rounds); err != nil {
		return err
	}
	const own = "/own"
	if err := copyTo(own, 0); err != nil {
		return err
	}
	var t tally
	var failed error
	t.atOnce(1, rounds, func() {
		f, err := os.Open(own)
		if err == nil {
			_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		}
		failed = errors.Join(failed, err)
		t.execute(own)
		f.Close()
	})
	return failed
}

// execs executes a large file of the attacker's, many times at once, and changes its times
// in between: its digest is never known.
func execs(args []string) error {
	var megabytes, n, rounds int
	if err := numbers(args, &megabytes, &n, &rounds); err != nil {
		return err
	}
	const own = "/own"
	if err := copyTo(own, int64(megabytes)<<20); err != nil {
		return err
	}
	var t tally
	t.atOnce(n, rounds, func() {
		os.Chtimes(own, time.Now(), time.Now())
		t.execute(own)
	})
	return nil
}

package gate

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// exiting is a program of one instruction's worth: an ELF file that ends with
// this exit code, and nothing else.
func exiting(t *testing.T, code byte) []byte {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("left out: the program is made for amd64")
	}
	machine := []byte{0xb8, 60, 0, 0, 0, 0xbf, code, 0, 0, 0, 0x0f, 0x05} // mov eax, SYS_exit; mov edi, code; syscall
	const base, header, segment = 0x400000, 64, 56
	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 2)  // ET_EXEC
	b = le.AppendUint16(b, 62) // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+header+segment) // entry
	b = le.AppendUint64(b, header)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{header, segment, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	size := uint64(header + segment + len(machine))
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // R, X
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, machine...)
}

// Two programs swap as fast as they can, in place and by name: what runs is
// what was measured for that very exec, or nothing runs.
func TestRacingWriter(t *testing.T) {
	programs := map[int][]byte{10: exiting(t, 10), 20: exiting(t, 20)}
	for name, swap := range map[string]func(file string, program []byte){
		"in place": func(file string, program []byte) {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return // ETXTBSY
			}
			f.Write(program)
			f.Close()
		},
		"by name": func(file string, program []byte) {
			next := file + ".next"
			if err := os.WriteFile(next, program, 0o755); err != nil {
				t.Error(err)
			}
			if err := os.Rename(next, file); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := overlay(t)
			_, s := watch(t, dir)
			file := filepath.Join(dir, "swapped")
			if err := os.WriteFile(file, programs[10], 0o755); err != nil {
				t.Fatal(err)
			}
			var stop atomic.Bool
			var writing sync.WaitGroup
			writing.Go(func() {
				for i := 0; !stop.Load(); i++ {
					swap(file, programs[10+10*(i%2)])
					time.Sleep(time.Duration(i%7) * 300 * time.Microsecond)
				}
			})
			ran := map[int]int{}
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
				_, before := s.last()
				c := exec.Command("/bin/sh", "-c", `exec "$0"`, file)
				c.Run()
				got, n := s.last()
				program, known := programs[c.ProcessState.ExitCode()]
				switch {
				case !known: // ETXTBSY
				case n != before+1:
					t.Errorf("it ran, and %d were measured", n-before)
				case got.err == nil && got.digest == sha512.Sum384(program):
					ran[c.ProcessState.ExitCode()]++
				case got.err == nil:
					t.Errorf("it ended with %d, and another program was measured", c.ProcessState.ExitCode())
				case !errors.Is(got.err, ErrWritable) && !errors.Is(got.err, errUnlocated):
					t.Errorf("it ran unmeasured: %v", got.err)
				}
			}
			stop.Store(true)
			writing.Wait()
			if ran[10] == 0 || ran[20] == 0 {
				t.Errorf("measured and ran: %v", ran)
			}
			t.Logf("measured and ran: %v", ran)
		})
	}
}

// A file that is swapped while its exec is held, by name or by its directory's
// name: what was opened runs, and that was measured.
func TestSwappedWhileHeld(t *testing.T) {
	dir := overlay(t)
	needRoot(t)
	sub := filepath.Join(dir, "sub")
	good, evil := exiting(t, 10), exiting(t, 20)
	for _, d := range []string{sub, sub + ".evil"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(sub, "program")
	if err := errors.Join(os.WriteFile(file, good, 0o755), os.WriteFile(filepath.Join(sub+".evil", "program"), evil, 0o755)); err != nil {
		t.Fatal(err)
	}
	var r *Roots
	ready, digests := make(chan struct{}), make(chan [48]byte, 1)
	r, err := HoldRoots(64<<20, Options{Deadline: 5 * time.Second, Missed: func(_ *HeldExec, why error) { t.Log("missed:", why) },
		Decide: func(ctx context.Context, h *HeldExec) error {
			<-ready
			content, err := r.Measure(ctx, h)
			if err := errors.Join(os.Rename(sub, sub+".good"), os.Rename(sub+".evil", sub)); err != nil {
				t.Error(err)
			}
			digests <- sha384(content)
			return err
		}})
	r.begins(t, err, ready, dir)
	c := exec.Command("/bin/sh", "-c", `exec "$0"`, file)
	c.Run()
	if got := <-digests; c.ProcessState.ExitCode() != 10 || got != sha512.Sum384(good) {
		t.Errorf("it ended with %d, measured was %.8x", c.ProcessState.ExitCode(), got)
	}
}

// begins lets decisions begin that need r, for what is below dir.
func (r *Roots) begins(t *testing.T, err error, ready chan struct{}, dir string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	t.Cleanup(r.Close)
	if _, err := r.Add(dir); err != nil {
		t.Fatal(err)
	}
}

package procfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAlive(t *testing.T) {
	own, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(own)
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	other, err := unix.PidfdOpen(child.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if err := Alive(own, other); err != nil {
		t.Errorf("both live: %v", err)
	}
	stdin.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, fds := range [][]int{{other}, {own, other}, {other, own, own}} {
		if err := Alive(fds...); !errors.Is(err, ErrEnded) {
			t.Errorf("one has ended: %v", err)
		}
	}
	if Alive(-1) == nil || Alive(own, -1) == nil {
		t.Error("lives, without a pidfd")
	}
}

func TestStartTicks(t *testing.T) {
	const rest = " S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 44497 0 0"
	for text, want := range map[string]uint64{
		"1 (init)" + rest:                       44497,
		"1 (a) S 9 9 9 9 9 9 (b)" + rest + "\n": 44497,
		"1 ()" + strings.Replace(rest, "44497", "18446744073709551615", 1): 1<<64 - 1,
	} {
		if got, err := StartTicks(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1 init" + rest[:10], "1 (init) S 1 1", "1 (x)" + strings.Replace(rest, "44497", "-1", 1)} {
		if got, err := StartTicks(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func FuzzStartTicks(f *testing.F) {
	f.Add("1 (a) b) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 44497 0 0")
	f.Fuzz(func(t *testing.T, text string) {
		ticks, err := StartTicks(text)
		if err != nil {
			return
		}
		fields := strings.Fields(text[strings.LastIndex(text, ")")+1:])
		if len(fields) < 20 || strings.TrimLeft(fields[19], "0") != strings.TrimLeft(fmt.Sprint(ticks), "0") {
			t.Fatalf("start time %d of %q", ticks, text)
		}
	})
}

package daemon

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/logs"
)

// Somebody swaps a source, which is data, with a link to /etc all the while: what is
// announced is what the container sees, each time, and its start is gated.
func TestSwappedSource(t *testing.T) {
	s := newScene(t)
	needShell(t)
	const data, link = "/srv/swapped", "/srv/link"
	if err := errors.Join(os.Mkdir(data, 0o755), os.WriteFile(data+"/mark", nil, 0o644), os.Symlink("/etc", link)); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				unix.Renameat2(unix.AT_FDCWD, data, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	const other = "host-write:/etc"
	saw := make(map[string]int)
	for saw["data"]+saw[other] < size(12, 200) {
		r, err := s.run(t, "docker run -v "+data+":/x "+shellImage+" /bin/busybox test -e /x/mark")
		remove("docker", r.id)
		sees, want := "data", []string(nil)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 {
			sees, want = other, []string{other}
		} else if err != nil {
			saw["nothing"]++ // between docker's look and the runtime's
			if saw["nothing"] > 50 {
				t.Fatal(err)
			}
			continue
		}
		saw[sees]++
		if !slices.Equal(r.classes, want) {
			t.Errorf("start %d sees %s, and %q is announced", saw["data"]+saw[other], sees, r.classes)
		}
		if start := s.startOfContainer(r.id); start != logs.StartGated {
			t.Errorf("start %q", start)
		}
	}
	t.Logf("starts by what the container saw: %v", saw)
	if *whole && (saw["data"] == 0 || saw[other] == 0) {
		t.Error("only one of both was seen: nobody swapped in time")
	}
}

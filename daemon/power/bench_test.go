package power

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// looked is a process with many mounts of directories that containers may read.
func looked(b *testing.B, mounts, entries int) (process, Container) {
	dir := b.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	for i := range entries {
		if i%1000 == 0 {
			if err := os.MkdirAll(fmt.Sprintf("%s/%d", data, i/1000), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := unix.Mknod(fmt.Sprintf("%s/%d/%d", data, i/1000, i), unix.S_IFREG|0o644, 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/m", 0o755); err != nil {
		b.Fatal(err)
	}
	p := start(b, fmt.Sprintf("mount -t tmpfs x /run/m; for i in $(seq %d); do mkdir /run/m/$i; mount -n --bind -o ro %s /run/m/$i; done", mounts, data))
	return p, Container{Facts: docker(b), Root: "/", DataRead: []string{data}}
}

func benchmark(b *testing.B, mounts, entries int) {
	p, c := looked(b, mounts, entries)
	b.ResetTimer()
	for range b.N {
		if _, err := (Host{}).Judge(b.Context(), c, Init{PID: p.pid, PIDFD: p.pidfd, Ran: true}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkJudge is a usual container: its mounts, and those of this machine beside them.
func BenchmarkJudge(b *testing.B) { benchmark(b, 10, 10) }

// BenchmarkJudgeMost is what the gate's deadline must hold.
func BenchmarkJudgeMost(b *testing.B) { benchmark(b, 4096, 20_000) }

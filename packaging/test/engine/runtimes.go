package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// copiesOf is where a program's copies of OCI runtimes lie: on a disk, as a runtime of the
// machine does. On a tmpfs runc takes its own file for one that can be sealed, and runs from
// a copy in memory, which no gate meets.
func copiesOf(name string) string { return filepath.Join("/var/tmp", name) }

// sweepCopies removes those that killed programs left behind, also one that had this
// program's number.
func sweepCopies() {
	old, _ := filepath.Glob(copiesOf(cgroupPrefix + "*"))
	for _, dir := range old {
		pid := strings.TrimPrefix(filepath.Base(dir), cgroupPrefix)
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) || pid == strconv.Itoa(os.Getpid()) {
			os.RemoveAll(dir)
		}
	}
}

// copyRuntimes mounts a copy over each OCI runtime.
func copyRuntimes(to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		for _, name := range []string{"runc", "crun"} {
			path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil || seen[path] {
				continue
			}
			seen[path] = true
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			copied := fmt.Sprintf("%s/%s-%d", to, name, len(seen))
			if err := os.WriteFile(copied, text, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(copied, path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("mount a copy of %s: %w", path, err)
			}
		}
	}
	return nil
}

package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/daemon/hashing"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/power"
)

// defaultPath is what runtimes search where the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// FromBundle returns the launch of the bundle in a directory, with the digests of its
// files, whichever user owns them. A bundle of an engine of root's is measured as the
// daemon does it, unless more is known. cimactl predict needs it.
func FromBundle(ctx context.Context, dir string, rules launch.Rules, known launch.Known) (launch.Launch, error) {
	if known.Image == nil {
		s := New(Options{Rules: rules})
		all, err := s.List(ctx)
		i := slices.IndexFunc(all, func(r Record) bool { return r.Bundle == path.Clean(dir) && r.Err == nil })
		if err == nil && i >= 0 {
			return s.Measure(ctx, all[i])
		}
	}
	f, err := os.Open(path.Join(dir, "config.json"))
	if err != nil {
		return launch.Launch{}, err
	}
	defer f.Close()
	var text bytes.Buffer
	c, err := launch.Read(io.TeeReader(f, &text))
	if err != nil {
		return launch.Launch{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	r := Record{Bundle: dir, RootPath: c.Root.Path, details: details{search: searchPath(c), user: userOf(c, text.Bytes())}}
	if r.RootPath != "" && !path.IsAbs(r.RootPath) {
		r.RootPath = path.Join(dir, r.RootPath)
	}
	if r.Launch, err = launch.Normalise(c, c.ID(), rules, known); err != nil {
		return launch.Launch{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return measure(ctx, r, power.Host{}, hashing.New())
}

// measure adds the digests of entrypoint and hooks. A file that can't be read has
// none; the only error is that ctx ended.
func measure(ctx context.Context, r Record, host power.Host, turns *hashing.Turns) (launch.Launch, error) {
	l := r.Launch
	l.Entrypoint = entrypoint(ctx, r, host.Root, turns)
	if l.Asked != nil && len(l.Asked.Hooks) > 0 {
		asked := *l.Asked
		asked.Hooks = slices.Clone(asked.Hooks)
		for i := range asked.Hooks {
			if fd, err := host.Open(string(asked.Hooks[i].Path)); err == nil {
				asked.Hooks[i].SHA384, _ = digestFile(ctx, turns, r.Bundle, fd)
				unix.Close(fd)
			}
		}
		l.Asked = &asked
	}
	if err := ctx.Err(); err != nil {
		return launch.Launch{}, fmt.Errorf("measuring the files of container %s: %w", r.ID, err)
	}
	return l, nil
}

// searchPath returns the container's PATH.
func searchPath(c *launch.Spec) string {
	for _, e := range slices.Backward(c.Process.Env) {
		if v, ok := strings.CutPrefix(string(e), "PATH="); ok {
			return v
		}
	}
	return defaultPath
}

// entrypoint finds the first argument as the runtime does, with the rights of the
// container's user: in the container's root file system, from its working directory, and
// along its PATH if it is a bare name. What the user may not search or execute is passed
// over, as the runtime passes over it, or fails.
func entrypoint(ctx context.Context, r Record, hostRoot string, turns *hashing.Turns) *launch.Entrypoint {
	asked := r.Launch.Asked
	if asked == nil || len(asked.Arguments) == 0 || asked.Arguments[0] == "" || r.RootPath == "" {
		return nil
	}
	root, err := openRoot(hostRoot+r.RootPath, r.Launch.Defaults.Mounts) // all of them
	if err != nil {
		return nil
	}
	defer root.close()
	root.user, root.hashing, root.payer = &r.details.user, turns, r.Bundle
	name := string(asked.Arguments[0])
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) { // .. of a symlink is where the symlink leads
			name = "/" + strings.Trim(string(asked.WorkingDirectory), "/") + "/" + name
		}
		e, err := root.entrypoint(ctx, name)
		if errors.Is(err, errCovered) {
			return &launch.Entrypoint{Path: root.shown(name, "")}
		}
		return e
	}
	for dir := range strings.SplitSeq(r.details.search, ":") {
		if !path.IsAbs(dir) {
			continue // runtimes refuse a file that they find by a relative PATH
		}
		e, err := root.entrypoint(ctx, path.Join(dir, name))
		switch {
		case errors.Is(err, errCovered), errors.Is(err, errListed):
			return nil // the file may be there, or further along PATH
		case err == nil:
			return e
		}
	}
	return nil
}

// entrypoint describes one candidate. An error says that the user can't execute a file
// there, or that nobody can tell.
func (root *rootfs) entrypoint(ctx context.Context, name string) (*launch.Entrypoint, error) {
	at, err := root.resolve(name)
	if err != nil {
		return nil, err
	}
	fd, st, err := root.stat(at)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EACCES
	}
	if err := root.user.mayExecute(fd, st); err != nil {
		return nil, err
	}
	e := &launch.Entrypoint{Path: root.shown(name, at)}
	e.SHA384, _ = digestFile(ctx, root.hashing, root.payer, fd)
	return e, nil
}

// shown is a path as the event shows it: clean, if that leads to the same file.
func (root *rootfs) shown(name, at string) launch.Text {
	clean := path.Clean(name)
	if slices.Contains(strings.Split(name, "/"), "..") {
		if other, _ := root.resolve(clean); other != at {
			return launch.Text(name)
		}
	}
	return launch.Text(clean)
}

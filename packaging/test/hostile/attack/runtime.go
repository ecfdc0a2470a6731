package attack

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cima-project/cima/packaging/test/engine"
)

// RuntimeImage is a root file system whose entrypoint /run-me is the runtime that makes the
// container: a link to /proc/self/exe, which is runc's init when the link is followed. The
// kernel loads the dynamic linker that the runtime names; here that is the attacker, so it
// runs in a process of the host's runtime, and has a descriptor of its file.
func RuntimeImage(attacker []byte, runtime string) (*engine.Image, error) {
	f, err := elf.Open(runtime)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".interp")
	if section == nil {
		return nil, fmt.Errorf("%s has no dynamic linker", runtime)
	}
	linker, err := section.Data()
	if err != nil {
		return nil, err
	}
	name := strings.TrimRight(string(linker), "\x00")
	return Image(attacker).Text(name, attacker).Link("/run-me", "/proc/self/exe"), nil
}

// runtimes executes the host's runtime many times at once.
func runtimes(args []string) error {
	var n, rounds int
	if err := numbers(args, &n, &rounds); err != nil {
		return err
	}
	held, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer held.Close()
	if path, err := os.Readlink("/proc/self/exe"); err != nil || strings.HasPrefix(path, "/memfd:") {
		return errors.Join(fmt.Errorf("the runtime runs from a copy in memory, %s, and the host's is out of reach", path), err)
	}
	if own, err := os.Stat("/attacker"); err == nil {
		if at, err := held.Stat(); err != nil || os.SameFile(own, at) {
			return errors.Join(errors.New("it is no runtime: run /run-me"), err)
		}
	}
	var t tally
	t.atOnce(n, rounds, func() { t.execute("/proc/self/exe") })
	return nil
}

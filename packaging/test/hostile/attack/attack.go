// Package attack answers: what can one container without power try against others?
//
// Each attack is one that once worked. attacker is the program that runs them in a
// container; it needs no library, and is also the dynamic linker of another program
// (RuntimeImage).
package attack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cima-project/cima/packaging/test/engine"
)

// attacks are run by their names, with sizes as arguments.
var attacks = map[string]func(args []string) error{
	"runtime": runtimes,
	"lease":   leases,
	"execs":   execs,
	"connect": connects,
}

// nothing is the argument of a program that ends at once.
const nothing = "nothing"

// Main runs the attack that the first argument names.
func Main(args []string) int {
	if len(args) > 0 && args[0] == nothing {
		return 0
	}
	if len(args) == 0 || attacks[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "attacker: must be told which attack")
		return 2
	}
	if err := attacks[args[0]](args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "attacker:", err)
		return 1
	}
	return 0
}

// Build builds the attacker and returns its text. It lies where no runtime does, so that it
// can be the dynamic linker of one.
func Build() ([]byte, error) {
	dir, err := os.MkdirTemp("", "attacker")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-ldflags", "-T 0x40001000", "-o", filepath.Join(dir, "attacker"), "github.com/cima-project/cima/packaging/test/hostile/attack/attacker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the attacker: %w: %s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "attacker"))
}

// Image is a root file system with the attacker, as /attacker.
func Image(attacker []byte) *engine.Image { return engine.NewImage().Text("/attacker", attacker) }

// numbers reads arguments.
func numbers(args []string, into ...*int) error {
	if len(args) != len(into) {
		return fmt.Errorf("%d numbers, must be %d", len(args), len(into))
	}
	var failed []error
	for i, arg := range args {
		n, err := strconv.Atoi(arg)
		*into[i] = n
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// tally counts what became of executions.
type tally struct{ done, refused atomic.Int64 }

// execute executes a program that ends at once.
func (t *tally) execute(path string) {
	if exec.Command(path, nothing).Run() == nil {
		t.done.Add(1)
	} else {
		t.refused.Add(1)
	}
}

// atOnce does something many times at once, in rounds; 0 rounds: until it is killed. It
// prints the tally after each.
func (t *tally) atOnce(n, rounds int, do func()) {
	runtime.GOMAXPROCS(n + 2) // vfork(2) keeps one of them until the program is executed
	for i := 0; rounds == 0 || i < rounds; i++ {
		var all sync.WaitGroup
		for range n {
			all.Go(do)
		}
		all.Wait()
		fmt.Println("done", t.done.Load(), "refused", t.refused.Load())
	}
}

package workload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	workloadattestorv1 "github.com/spiffe/spire-plugin-sdk/proto/spire/plugin/agent/workloadattestor/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A daemon that hangs holds up those who wait, for as long as they wait, and nobody
// beyond what may wait.
func TestTurns(t *testing.T) {
	p := New()
	p.ready.Store(&ready{socket: filepath.Join(t.TempDir(), "none")})
	p.turns.all = ofAll
	if _, err := p.Attest(t.Context(), &workloadattestorv1.AttestRequest{Pid: 1}); status.Code(err) != codes.ResourceExhausted {
		t.Error(err)
	}
	p.turns.all = 0
	for range atOnce {
		p.turns.slots <- struct{}{}
	}
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := p.Attest(ctx, &workloadattestorv1.AttestRequest{Pid: 1})
		ended <- err
	}()
	cancel()
	if err := <-ended; status.Code(err) != codes.Unavailable || p.turns.all != 0 || len(p.turns.byOrigin) != 0 {
		t.Errorf("%v, %d wait", err, p.turns.all)
	}
}

// One origin whose look-ups hang has one turn and its share of the places; another one gets
// through at once, and nothing is left of who has gone.
func TestTurnsOfOrigins(t *testing.T) {
	turns := newTurns()
	hung, err := turns.take(t.Context(), "hostile")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	late := make(chan error)
	for range ofOne - 1 {
		go func() {
			_, err := turns.take(ctx, "hostile")
			late <- err
		}()
	}
	waits := func() int {
		turns.mu.Lock()
		defer turns.mu.Unlock()
		return turns.all
	}
	for waits() < ofOne {
		runtime.Gosched()
	}
	if _, err := turns.take(t.Context(), "hostile"); !errors.Is(err, errTooMany) {
		t.Errorf("one beyond its share: %v", err)
	}
	for range 3 * atOnce {
		done, err := turns.take(t.Context(), "other")
		if err != nil {
			t.Fatal(err)
		}
		done()
	}
	cancel()
	for range ofOne - 1 {
		if err := <-late; !errors.Is(err, errTooLate) {
			t.Errorf("one that waited: %v", err)
		}
	}
	hung()
	if turns.all != 0 || len(turns.byOrigin) != 0 || len(turns.slots) != 0 {
		t.Errorf("%d are left, of %d origins, with %d turns", turns.all, len(turns.byOrigin), len(turns.slots))
	}
}

func TestScopeOf(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for cgroup, want := range map[string]string{
		"/docker/" + id:                                    "/docker/" + id,
		"/docker/" + id + "/a/b":                           "/docker/" + id,
		"/system.slice/docker-" + id + ".scope/init":       "/system.slice/docker-" + id + ".scope",
		"/system.slice/sshd.service":                       "/system.slice/sshd.service",
		"/system.slice/x.service/a/" + id:                  "/system.slice/x.service/a/" + id,
		"/user.slice/user-1000.slice/session-3.scope":      "/user.slice/user-1000.slice",
		"/user.slice/user-1000.slice/user@1000.service/a":  "/user.slice/user-1000.slice",
		"/user.slice/user-1000.slice/x/" + id:              "/user.slice/user-1000.slice",
		"/kubepods/besteffort/podx/" + id + "/b":           "/kubepods/besteffort/podx/" + id,
		"/default/web/a/b":                                 "/default/web",
		"/default":                                         "/default",
		"/machine.slice":                                   "/machine.slice",
		"/kubepods.slice/a.slice/cri-" + id + ".scope/a/b": "/kubepods.slice/a.slice/cri-" + id + ".scope",
	} {
		if got := scopeOf(cgroup); got != want {
			t.Errorf("%s: %s, want %s", cgroup, got, want)
		}
	}
	if got := originOf(os.Getpid()); !strings.HasPrefix(got, "/") && got != "" {
		t.Errorf("this process: %q", got)
	}
	if got := originOf(-1); got != "" {
		t.Errorf("no process: %q", got)
	}
}

func FuzzScopeOf(f *testing.F) {
	f.Add("/user.slice/user-1000.slice/session-3.scope")
	f.Fuzz(func(t *testing.T, cgroup string) {
		if got := scopeOf(cgroup); !strings.HasPrefix(cgroup, got) {
			t.Errorf("%q: %q", cgroup, got)
		}
	})
}

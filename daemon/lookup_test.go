package daemon

import (
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

// What the gate saw of a start is what a look-up says, before a restart of the daemon and
// after it: none is said only where the gate saw that there is none.
func TestLookUpGatedStarts(t *testing.T) {
	f := gateFixture(t)
	usual, powerful := f.hold(), f.hold("--cap-add", "SYS_ADMIN")
	look := func(id string) rpc.ProcessIdentity {
		t.Helper()
		pid, err := strconv.Atoi(docker(t, "inspect", "--format", "{{.State.Pid}}", id))
		if err != nil {
			t.Fatal(err)
		}
		client, err := rpc.Dial(t.Context(), filepath.Join(f.dir, "cima-lookup", "lookup.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		who, err := client.LookUpProcess(t.Context(), rpc.ProcessParams{PID: pid})
		if err != nil || who.Container == nil || who.Container.ID != id || who.Container.Assurance.Start != logs.StartGated || who.Source != logs.SourceBundle {
			t.Fatalf("%.12s: %+v, %v", id, who, err)
		}
		return who
	}
	both := func() {
		t.Helper()
		if who := look(usual); who.Power == nil || len(who.Power) != 0 {
			t.Errorf("a usual container: power %#v", who.Power)
		}
		if who := look(powerful); !slices.Contains(who.Power, "capability:CAP_SYS_ADMIN") || slices.Contains(who.Power, "unseen-start") {
			t.Errorf("a container with power: %q", who.Power)
		}
	}
	both()
	f.restart()
	both()
}

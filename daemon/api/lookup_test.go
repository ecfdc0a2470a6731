package api

import (
	"os"
	"os/exec"
	"testing"

	"github.com/cima-project/cima/daemon/procfs"
	"github.com/cima-project/cima/rpc"
)

// The look-up socket tells of the process that has the number, and of no other.
func TestLookUpProcess(t *testing.T) {
	f := newFixture(t)
	c := f.dial("lookup.sock")
	who, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	started, err := procfs.Started(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if who.PID != os.Getpid() || who.Started != started || who.Container != nil || who.Power != nil || who.Host == nil {
		t.Errorf("this process: %+v", who)
	}
	if _, err := c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid(), Started: started}); err != nil {
		t.Error(err)
	}
	// Another process had the number when the caller was told it.
	_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid(), Started: started - 1})
	wantCode(t, err, rpc.CodeUnattributed)
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: ended.Process.Pid})
	wantCode(t, err, rpc.CodeUnattributed)
	for _, pid := range []int{0, -1, 4194305} {
		_, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: pid})
		wantCode(t, err, rpc.CodeInvalidParams)
	}
	// A zombie has a number and a start time, and runs nothing.
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	for {
		if _, err = c.LookUpProcess(t.Context(), rpc.ProcessParams{PID: zombie.Process.Pid}); err != nil {
			break
		}
	}
	wantCode(t, err, rpc.CodeUnattributed)
}

// A group has the socket: it makes no quote, and names nobody else.
func TestLookupSocketAnswersNothingElse(t *testing.T) {
	f := newFixture(t)
	c := f.dial("lookup.sock")
	if who, err := c.WhoAmI(t.Context()); err != nil || who.PID != int32(os.Getpid()) {
		t.Errorf("%+v, %v", who, err)
	}
	for _, name := range methodNames() {
		if name == rpc.MethodWhoAmI || name == rpc.MethodLookUpProcess || name == rpc.MethodDiscover {
			continue
		}
		err := c.Call(t.Context(), name, nil, nil)
		wantCode(t, err, rpc.CodeMethodNotFound)
	}
	err := c.Call(t.Context(), rpc.MethodWhoAmI, map[string]string{"container_id": "x"}, nil)
	wantCode(t, err, rpc.CodeInvalidParams)
	_, err = f.client().LookUpProcess(t.Context(), rpc.ProcessParams{PID: os.Getpid()})
	wantCode(t, err, rpc.CodeMethodNotFound)
}

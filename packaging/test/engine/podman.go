package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

const (
	containersConf = private + "/containers.conf"
	daemonJSON     = private + "/daemon.json"
)

// Podman is podman at the usual places of the namespaces that Alone made.
var Podman = sync.OnceValues(func() (*Engine, error) {
	if err := wantAlone("podman", "conmon"); err != nil {
		return nil, err
	}
	e := &Engine{Name: "podman", Client: []string{"podman"}}
	if _, err := e.Do(context.Background(), "", "info"); err != nil {
		return nil, err
	}
	return e, nil
})

// configure writes the configuration of the engines and their clients. Docker's
// files are empty. Podman's say that there are no systemd, no journal and no
// limits above those that root may have here.
func configure() error {
	podman := "[containers]\ndefault_ulimits = [\"nofile=1000:1000\", \"nproc=1000:1000\"]\n" +
		fmt.Sprintf("[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = %q\n", runtimeHere())
	return errors.Join(
		os.WriteFile(containersConf, []byte(podman), 0o644),
		os.WriteFile(daemonJSON, []byte("{}"), 0o644),
		os.WriteFile(filepath.Join(private, "config.json"), []byte("{}"), 0o644), // of docker's client; podman reads it, too
	)
}

// runtimeHere is podman's usual runtime if it works: crun refuses cgroup v1.
func runtimeHere() string {
	_, errCrun := exec.LookPath("crun")
	_, errV2 := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	if errCrun == nil && errV2 == nil {
		return "crun"
	}
	return "runc"
}

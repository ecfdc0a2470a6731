package kubernetes

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	predict "github.com/cima-project/cima/daemon/launch/predict/compose"
)

// The compose file, by the library that docker compose has: its schema refuses unknown
// keys.
func TestCompose(t *testing.T) {
	const file = "../../compose/compose.yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	load := func(text []byte) (*types.Project, error) {
		return loader.LoadWithContext(t.Context(), types.ConfigDetails{
			WorkingDir: t.TempDir(), ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: text}}, Environment: types.Mapping{},
		}, func(o *loader.Options) { o.SetProjectName("example", true); o.Profiles = []string{"*"} })
	}
	p, err := load(text)
	if err != nil {
		t.Fatal(err)
	}
	app, cdi := p.Services["app"], p.Services["by-cdi"]
	at := slices.IndexFunc(app.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/run/cima" })
	if at < 0 || app.Volumes[at].Source != "/run/cima" || !app.Volumes[at].ReadOnly || app.Volumes[at].Bind == nil || bool(app.Volumes[at].Bind.CreateHostPath) {
		t.Errorf("%+v", app.Volumes)
	}
	if len(cdi.Devices) != 1 || cdi.Devices[0].Source != "cima-project.github.io/agent=default" || len(cdi.Profiles) != 1 {
		t.Errorf("%+v", cdi)
	}
	if _, err := load([]byte(strings.Replace(string(text), "read_only:", "readonly:", 1))); err == nil {
		t.Error("an unknown key is taken")
	}
	f, err := predict.Read(text, "example", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Container("app"); err != nil || len(c.Unknown) > 0 {
		t.Errorf("what it asks for must be known before it runs: %+v, %v", c, err)
	}
}

// quadletKeys are those that podman-systemd.unit(5) of podman 4.9 has and the example may
// need, by section. Keys of [Unit], [Service] and [Install] are systemd's.
var quadletKeys = map[string][]string{
	"Container": strings.Fields(`AddCapability AddDevice Annotation AutoUpdate ContainerName DropCapability Entrypoint Environment
		EnvironmentFile EnvironmentHost Exec ExposeHostPort Group GroupAdd HealthCmd HostName Image IP IP6 Label LogDriver Mask Mount
		Network NoNewPrivileges Notify PidsLimit PodmanArgs PublishPort Pull ReadOnly ReadOnlyTmpfs Rootfs RunInit SeccompProfile
		Secret SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelNested SecurityLabelType ShmSize StopTimeout
		SubGIDMap SubUIDMap Sysctl Timezone Tmpfs UIDMap GIDMap Ulimit Unmask User UserNS Volume WorkingDir`),
	"Unit":    {"Description", "Requires", "After"},
	"Service": {"Type", "Restart"},
	"Install": {"WantedBy"},
}

// The Quadlet file has known keys alone, and what the container needs. (Quadlet itself
// reads it in the VM, packaging/test/vm.)
func TestQuadlet(t *testing.T) {
	f, err := os.Open("../../quadlet/cima-example.container")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	has := map[string][]string{}
	section := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || !slices.Contains(quadletKeys[section], key) {
			t.Errorf("[%s] has no key %q", section, key)
		}
		has[section+"."+key] = append(has[section+"."+key], value)
	}
	for key, want := range map[string]string{
		"Container.Volume": "/run/cima:/run/cima:ro", "Container.Environment": "CIMA_SOCKET=/run/cima/cima.sock", "Container.Image": "docker.io/library/debian:trixie-slim",
		"Container.Exec": "/usr/bin/cimactl whoami", "Unit.After": "cimad.socket", "Unit.Requires": "cimad.socket",
	} {
		if !slices.Contains(has[key], want) {
			t.Errorf("%s is %q, and must be %q", key, has[key], want)
		}
	}
}

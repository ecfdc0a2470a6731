package packaging

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cima-project/cima/hw/imds"
)

var units = []string{"cimad.service", "cimad.socket", "cimad-admin.socket", "cimad-lookup.socket"}

func unit(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// analyze runs systemd-analyze on copies of the units, with the named drop-ins.
// The copies name a program that this machine has. It returns systemd's
// version, too.
func analyze(t *testing.T, dropins []string, args ...string) (string, int) {
	t.Helper()
	tool := need(t, "systemd-analyze")
	dir := t.TempDir()
	put := func(name, text string) {
		text = strings.NewReplacer("/usr/sbin/cimad", "/bin/true", "/usr/libexec/cima/cima-imds", "/bin/true", "/usr/bin/cimactl", "/bin/true").Replace(text)
		text = strings.ReplaceAll(text, "/bin/kill", "/bin/true") // systemd-252.conf
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append([]string{"cima-imds.socket", "cima-imds.service", "cima-metrics.service", "cima-metrics.timer", "cima.slice"}, units...) {
		put(name, unit(t, name))
	}
	for _, name := range dropins {
		put("cimad.service.d/"+name, unit(t, name))
	}
	fields := strings.Fields(run(t, dir, tool, "--version"))
	version, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range args {
		if strings.HasPrefix(a, "cima") {
			args[i] = filepath.Join(dir, a)
		}
	}
	c := exec.Command(tool, args...)
	c.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %q: %v", args, err)
	}
	return string(out), version
}

// since is the version of systemd that first knows what the units say. An older one
// names it in the journal and ignores it; systemd-252.conf makes up for the type.
var since = map[string]int{
	"FileDescriptorStorePreserve": 254, "RestartSteps": 254, "RestartMaxDelaySec": 254, "notify-reload": 253, "AcceptFileDescriptors": 258,
}

func TestUnitsVerifyInSilence(t *testing.T) {
	for _, dropins := range [][]string{nil, {"systemd-252.conf"}, {"no-gate.conf"}, {"no-gate.conf", "no-homes.conf"}, {"rootless.conf"}, {"qgs.conf"}} {
		out, version := analyze(t, dropins, append([]string{"verify", "--man=no", "cima-imds.socket", "cima-imds.service", "cima-metrics.service", "cima-metrics.timer", "cima.slice"}, units...)...)
	lines:
		for line := range strings.Lines(out) {
			for word, first := range since {
				if version < first && strings.Contains(line, word) {
					continue lines
				}
			}
			t.Errorf("with %v: %s", dropins, line)
		}
	}
}

// The gate stands before any unit that starts containers: all services with default
// dependencies start after basic.target, Quadlet's too (the VM boots with one).
func TestGateStandsBeforeEveryService(t *testing.T) {
	// values are those of a setting, in all its lines.
	values := func(name string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit(t, "cimad.service"), -1) {
			out = append(out, strings.Fields(m[1])...)
		}
		return out
	}
	if got := values("DefaultDependencies"); !slices.Equal(got, []string{"no"}) {
		t.Errorf("DefaultDependencies=%q would order cimad behind basic.target", got)
	}
	for setting, wanted := range map[string][]string{
		"Before":    {"basic.target", "shutdown.target"}, // without default dependencies, the second is said here
		"Conflicts": {"shutdown.target"},
		"Requires":  {"sysinit.target", "cimad.socket"},
		"WantedBy":  {"multi-user.target"},
	} {
		for _, name := range wanted {
			if got := values(setting); !slices.Contains(got, name) {
				t.Errorf("cimad.service must have %s=%s, it has %q", setting, name, got)
			}
		}
	}
	// What starts after basic.target would make a cycle, which systemd breaks as it likes.
	early := []string{"sysinit.target", "cimad.socket", "cimad-admin.socket", "cimad-lookup.socket", "modprobe@tdx_guest.service", "modprobe@sev_guest.service", "sys-kernel-config.mount"}
	for _, name := range values("After") {
		if !slices.Contains(early, name) {
			t.Errorf("cimad.service starts after %s: does that start before basic.target?", name)
		}
	}
}

// The daemon's exit statuses that say "a restart does not help" are in the unit.
func TestUnitDoesNotRestartWhatCannotWork(t *testing.T) {
	code, err := os.ReadFile("../daemon/run.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"exitConfig", "exitUnsupported"} {
		status := regexp.MustCompile(name + `\s+= (\d+)`).FindSubmatch(code)
		if status == nil || !regexp.MustCompile(`(?m)^RestartPreventExitStatus=.*\b`+string(status[1])+`\b`).MatchString(unit(t, "cimad.service")) {
			t.Errorf("RestartPreventExitStatus= must have %s (%q)", name, status)
		}
	}
}

// Exposure has the bounds that SECURITY.md names.
func TestExposure(t *testing.T) {
	for _, tt := range []struct {
		dropins []string
		most    string // in tenths
	}{
		{nil, "18"},
		{[]string{"no-gate.conf"}, "12"},
		{[]string{"no-gate.conf", "no-homes.conf"}, "11"},
		{[]string{"rootless.conf"}, "18"},
		{[]string{"qgs.conf"}, "20"},
	} {
		out, _ := analyze(t, tt.dropins, "security", "--no-pager", "--offline=true", "--threshold="+tt.most, "cimad.service")
		if t.Failed() {
			t.Logf("with %v:\n%s", tt.dropins, out)
		}
	}
}

// The service that has a network has nothing else.
func TestExposureOfIMDS(t *testing.T) {
	out, _ := analyze(t, nil, "security", "--no-pager", "--offline=true", "--threshold=15", "cima-imds.service")
	if t.Failed() {
		t.Log(out)
	}
}

// What asks for metrics as root has no privilege, no network, and one directory.
func TestExposureOfMetrics(t *testing.T) {
	out, _ := analyze(t, nil, "security", "--no-pager", "--offline=true", "--threshold=10", "cima-metrics.service")
	if t.Failed() {
		t.Log(out)
	}
	if text := unit(t, "cima-metrics.service"); strings.Count(text, "\nCapabilityBoundingSet=\n") != 1 || strings.Count(text, "ReadWritePaths=") != 1 || strings.Contains(text, "[Install]") {
		t.Error("cima-metrics.service must have no capability and one directory to write to, and be started by its timer alone")
	}
	if !regexp.MustCompile(`(?m)^disable cima-metrics\.timer$`).MatchString(unit(t, "85-cima.preset")) {
		t.Error("a preset must not enable cima-metrics.timer: not every machine has a node exporter")
	}
}

// TestMetricsFile: the unit's command leaves the whole file or none, and one that others can
// read. The program that it asks is a script here.
func TestMetricsFile(t *testing.T) {
	line := regexp.MustCompile(`(?m)^ExecStart=/bin/sh -c '([^']+)'$`).FindStringSubmatch(unit(t, "cima-metrics.service"))
	if line == nil || strings.Count(line[1], "/usr/bin/cimactl ") != 1 {
		t.Fatal("ExecStart= must be one shell command that asks cimactl once")
	}
	dir := t.TempDir()
	program, file := filepath.Join(dir, "cimactl"), filepath.Join(dir, "cima.prom")
	command := "umask 0022; " + strings.Replace(line[1], "/usr/bin/cimactl", program, 1)
	ask := func(script string) error {
		t.Helper()
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("/bin/sh", "-c", command)
		c.Env = append(os.Environ(), "FILE="+file)
		return c.Run()
	}
	if err := ask(`[ "$*" = "status --metrics" ] && echo cima_ready 1`); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if fi, statErr := os.Stat(file); err != nil || statErr != nil || string(text) != "cima_ready 1\n" || fi.Mode() != 0o644 {
		t.Errorf("%q, %v, %v", text, err, statErr)
	}
	// It is there whole while the next is written.
	if err := ask(`grep -q "cima_ready 1" ` + file + ` && echo cima_ready 0`); err != nil {
		t.Error("the file was not there, or not whole, while the next was written: ", err)
	}
	if err := ask("echo half; exit 3"); err == nil {
		t.Error("a daemon that doesn't answer must be told as a failure")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("after a failure %v is left, %v: old numbers must not be", left, err)
	}
}

// For each measure that systemd-analyze misses, a comment of the unit gives the
// reason.
func TestWhatIsAbsentHasItsReason(t *testing.T) {
	out, _ := analyze(t, nil, "security", "--no-pager", "--offline=true", "--json=short", "cimad.service")
	var found []struct {
		Set         *bool  `json:"set"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "[{"):]), &found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var comments strings.Builder
	for line := range strings.Lines(unit(t, "cimad.service")) {
		if strings.HasPrefix(line, "#") {
			comments.WriteString(line)
		}
	}
	// Measures that the comments call by another name.
	words := map[string]string{
		"CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)": "CAP_DAC_READ_SEARCH",
		"SystemCallFilter=~@privileged":                       "privilege", "RestrictAddressFamilies=~AF_UNIX": "AF_UNIX",
		"RestrictAddressFamilies=~…": "AF_UNIX", "ProtectHome=": `Not "yes"`, "DeviceAllow=": "DeviceAllow",
	}
	missed := 0
	for _, f := range found {
		if f.Set != nil && *f.Set {
			continue
		}
		if strings.Contains(f.Description, "special boot phase") && strings.Contains(unit(t, "cimad.service"), "\n"+f.Name) {
			continue // set; systemd-analyze does not expect it in a unit without default dependencies
		}
		missed++
		word, ok := words[f.Name]
		if !ok {
			_, word, ok = strings.Cut(f.Name, "=~")
			if !ok {
				word, _, _ = strings.Cut(f.Name, "=")
				word += "="
			}
		}
		if !strings.Contains(comments.String(), word) {
			t.Errorf("%s is missing, and a comment of cimad.service must name %q", f.Name, word)
		}
	}
	if missed < 10 {
		t.Errorf("only %d measures are missing: is this the right list?", missed)
	}
}

// Units and code use the same names.
func TestUnitsFitTheCode(t *testing.T) {
	code, err := os.ReadFile("../daemon/sockets.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cimad.socket", "cimad-admin.socket", "cimad-lookup.socket"} {
		fd := regexp.MustCompile(`FileDescriptorName=(\S+)`).FindStringSubmatch(unit(t, name))
		if fd == nil || !strings.Contains(string(code), `= "`+fd[1]+`"`) {
			t.Errorf("%s: daemon/sockets.go must know the descriptor %q", name, fd)
		}
	}
	service := unit(t, "cimad.service")
	const azure = "smbios-field(chassis_asset_tag = 7783-7084-3265-9085-8269-3286-77)"
	if asks := unit(t, "cima-imds.socket"); !strings.Contains(asks, "\nConditionFirmware="+azure+"\n") || !strings.Contains(asks, "\nListenStream="+imds.Socket+"\n") {
		t.Error("cima-imds.socket must be where cimad asks, on Azure alone")
	}
	if asks := unit(t, "cima-imds.service"); !strings.Contains(asks, "\nExecStart=/usr/libexec/cima/cima-imds\n") {
		t.Error("cima-imds.service must start the program of its own")
	}
	for _, name := range units {
		if conditions := regexp.MustCompile(`(?m)^Condition.*`).FindAllString(unit(t, name), -1); !slices.Equal(conditions, []string{"ConditionPathExists=|/dev/tdx_guest", "ConditionPathExists=|/dev/sev-guest", "ConditionFirmware=|" + azure}) {
			t.Errorf("%s must have the conditions of each platform, and no other: %q", name, conditions)
		}
		if name != "cimad.service" && !regexp.MustCompile(`(?m)^Sockets=.*\b`+regexp.QuoteMeta(name)).MatchString(service) {
			t.Errorf("cimad.service must take %s", name)
		}
	}
	files, err := filepath.Glob("../daemon/*.go")
	if err != nil {
		t.Fatal(err)
	}
	hangup := false
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		hangup = hangup || !strings.HasSuffix(f, "_test.go") && strings.Contains(string(b), "syscall.SIGHUP")
	}
	if reload := strings.Contains(service, "\nType=notify-reload\n"); reload != hangup {
		t.Errorf("the unit reloads: %v, cimad handles SIGHUP: %v", reload, hangup)
	}
}

// RestrictSUIDSGID= forbids openat2(2): code that needs it would fail in the
// unit and nowhere else.
func TestNoProgramNeedsOpenat2(t *testing.T) {
	if !strings.Contains(unit(t, "cimad.service"), "\nRestrictSUIDSGID=yes\n") {
		t.Error("cimad.service has no RestrictSUIDSGID=yes")
	}
	err := filepath.WalkDir("..", func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == ".cache" {
			return filepath.SkipDir // Go itself, if it was fetched
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), "unix.Openat2(") {
			t.Errorf("%s must not call openat2", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The weight counts beside the slices that hold containers: a slice whose name has a dash
// would lie in another.
func TestWeightBesideContainers(t *testing.T) {
	m := regexp.MustCompile(`(?m)^Slice=(.*)$`).FindStringSubmatch(unit(t, "cimad.service"))
	if m == nil || strings.Contains(m[1], "-") {
		t.Fatalf("cimad.service has the slice %q, must have one at the top", m)
	}
	if !strings.Contains(unit(t, m[1]), "\nCPUWeight=1000\n") {
		t.Errorf("%s does not weigh 1000", m[1])
	}
}

package packaging

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rulesOf is the text of a file of this directory, without its comments.
func rulesOf(t *testing.T, name, comment string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)\s*`+comment+`.*$`).ReplaceAllString(string(b), "")
}

// By AppArmor cimad has Unix sockets and the quoting service's; cima-imds, which asks Azure's
// host, has TCP, and neither runs the other.
func TestAppArmorGivesTCPToIMDSAlone(t *testing.T) {
	profiles := map[string]string{}
	for _, m := range regexp.MustCompile(`(?ms)^profile (\S+) .*?\{\n(.*?)^\}`).FindAllStringSubmatch(rulesOf(t, "apparmor/usr.sbin.cimad", "#"), -1) {
		profiles[m[1]] = m[2]
	}
	for name, want := range map[string][]string{"cimad": {"unix", "vsock"}, "cima-imds": {"unix", "inet stream"}} {
		var got []string
		for _, m := range regexp.MustCompile(`(?m)^\s*network\b\s*(.*),$`).FindAllStringSubmatch(profiles[name], -1) {
			got = append(got, m[1])
		}
		if !slices.Equal(got, want) {
			t.Errorf("the profile of %s must allow the networks %q, not %q", name, want, got)
		}
	}
	for name, program := range map[string]string{"cimad": "/usr/{s,}bin/cimad mrix", "cima-imds": "/usr/libexec/cima/cima-imds mr"} {
		var got []string
		for line := range strings.Lines(profiles[name]) {
			rule := strings.TrimSuffix(strings.TrimSpace(line), ",")
			if strings.HasPrefix(rule, "/") && regexp.MustCompile(` \w*[xm]\w*$`).MatchString(rule) {
				got = append(got, rule)
			}
		}
		if !slices.Equal(got, []string{program}) {
			t.Errorf("under its profile %s must run %q alone, not %q", name, program, got)
		}
	}
	if regexp.MustCompile(`(?m)capability|ptrace| [rm]*w[rk]*,$`).FindString(strings.ReplaceAll(profiles["cima-imds"], "/run/cima-imds.sock rw,", "")) != "" {
		t.Error("cima-imds must have no capability, look into no process and write no file")
	}
}

// The SELinux module says the same (proof-selinux asks a whole policy).
func TestSELinuxGivesTCPToIMDSAlone(t *testing.T) {
	cil := rulesOf(t, "selinux/cima.cil", ";")
	var who []string
	for _, m := range regexp.MustCompile(`\(allow (\S+) \S+ \((\w+) `).FindAllStringSubmatch(cil, -1) {
		if strings.HasSuffix(m[2], "_socket") && !strings.HasPrefix(m[2], "unix_") {
			who = append(who, m[1]+" "+m[2])
		}
	}
	if !slices.Equal(who, []string{"cima_imds_t tcp_socket", "cima_imds_t tcp_socket"}) {
		t.Errorf("cima_imds_t alone must have sockets of a network: %q", who)
	}
	for _, label := range []string{
		`(filecon "/usr/libexec/cima/cima-imds" file (system_u object_r cima_imds_exec_t `,
		`(filecon "/run/cima-imds\.sock" socket (system_u object_r cima_imds_socket_t `,
		"(typetransition init_t cima_imds_exec_t process cima_imds_t)",
		"(allow cimad_t cima_imds_t (unix_stream_socket (connectto)))",
		"(allow cimad_t cima_imds_socket_t (sock_file (getattr write)))",
	} {
		if !strings.Contains(cil, label) {
			t.Errorf("the module must have %s", label)
		}
	}
	if !strings.Contains(unit(t, "cima-imds.service"), "\nExecStart=/usr/libexec/cima/cima-imds\n") || !strings.Contains(unit(t, "cima-imds.socket"), "\nListenStream=/run/cima-imds.sock\n") {
		t.Error("units and labels must have the same paths")
	}
}

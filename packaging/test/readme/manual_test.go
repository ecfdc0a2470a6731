package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// example says how a block of the manual runs.
type example struct {
	before string     // commands that make what the block reads
	change [][]string // what stands for something here, and what it is
	reads  string     // the command that reads the block, if it is no command itself
	exit   int        // what it ends with here
	joins  bool       // goes on where the block before it ended
	prints []string   // what must be in its output
	cannot string     // why it can't run here
}

// examples are the manual's, by page and first line.
var examples = map[string]example{
	"cima-access.7: cp \"$(command -v cimactl)\" .": {
		before: `mkdir -p walk/root/bin && cd walk && cp "$(command -v busybox)" root/bin
for applet in sh cat mkdir httpd; do ln -s busybox root/bin/$applet; done
tar -C root -c bin | docker import - busybox && rm -r root`,
		change: unnetworked,
	},
	"cima-access.7: mkfifo to": {joins: true, change: unnetworked},
	"cima-access.7: cimactl policy init evidence.json --trust-root /run/cima-td/root.pem \\": {joins: true},
	"cima-access.7: echo 'the word is swordfish' >secret.txt":                                {joins: true},
	"cima-access.7: cimactl tls connect 127.0.0.1:8443 --policy policy.toml \\":              {joins: true, change: unnetworked, prints: []string{"\nthe word is swordfish\n"}},
	"cima-access.7: kill $!": {joins: true, change: unnetworked, prints: []string{"caller-values: asked.environment is [{\"name\":\"DEBUG\"}], must be none", "nothing is sealed: authentic, not trusted", "\nnot sealed: 4\n"}},
	"cima-access.7: cimactl tls serve --listen :8443 --forward 127.0.0.1:8080":                  {cannot: "it serves until it is ended: make proof-tls"},
	"cima-access.7: cimactl tls connect HOST:8443 --policy policy.toml \\":                      {cannot: "the same"},
	"cima-access.7: {\"exporter\":HEX,\"profile\":PROFILE,\"role\":\"server\"}":                 {cannot: "no command: rpc/atls and its tests"},
	"cima-access.7: {\"data\":HEX,\"profile\":URI}":                                             {cannot: "no command: rpc/tree and its tests"},
	"cima-access.7: SHA-512(\"cima-tree-leaf-v1\" ‖ 0 ‖ object ‖ 0 ‖ nonce)":                    {cannot: "the same"},
	"cima-access.7: user_data = {\"profile\":TREE,\"root\":HEX,\"size\":N}":                     {cannot: "the same"},
	"cima-access.7: {\"evidence\":EVIDENCE,\"tree\":{\"size\":N,\"index\":I,\"path\":[HEX]}}":   {cannot: "the same"},
	"cima-access.7: cimactl unseal --nonce - -- app":                                            {cannot: "it waits for what the other end seals: the tests of rpc/cimactl/seal"},
	"cima-access.7: {\"profile\":\"https://github.com/cima-project/cima/seal/v1\",":             {cannot: "no command: rpc/userdata and its tests"},
	"cima-access.7: cimactl evidence --nonce HEX --jwk public.jwk >evidence.json":               {cannot: "needs a key broker's client: the tests of rpc/userdata"},
	"cima-api.7: ask() { # METHOD [PARAMS]":                                                     {},
	"cima-api.7: cimactl verify host.json \\":                                                   {exit: 2}, // a simulated root
	"cima-from-05.7: from cima_client.compat import CimaSdk    # was: from cima import CimaSdk": {reads: "PYTHONPATH=rpc/python python3 -"},
	"cima-policy.5: # One app on one cloud.":                                                    {cannot: "no command: man's tests and hw/verify/policy read it"},
	"cima-policy.5: # A platform team: two firmwares, three kernels, two kinds of containers.":  {cannot: "the same"},
	"cima-policy.5: # A bank: valid for a month, no exceptions; channel and programs given.":    {cannot: "the same"},
	"cima-policy.5: # A guest on AWS: its firmware is known, and not what that booted.":         {cannot: "the same"},
	"cima-policy.5: ssh-keygen -Y sign -n cima-policy -f KEY policy.toml": {
		before: `ssh-keygen -q -t ed25519 -N '' -f KEY; echo "team $(cat KEY.pub)" >allowed_signers`, exit: 2, // a simulated root
	},
	"cima-reference-values.7: cimactl predict boot --uki app.efi --check evidence.json":     {cannot: "needs a UKI and a machine that booted it: make proof-boot"},
	"cima-spire.7: NodeAttestor \"cima\" {":                                                 {cannot: "needs spire-agent: make proof-spire"},
	"cima-spire.7: systemd-run --pipe -u spire-agent.service \\":                            {cannot: "needs systemd: make proof-spire"},
	"cima-spire.7: spire-server entry create -node -spiffeID spiffe://example.org/nodes \\": {cannot: "the same"},
	"cima-spire.7: cima_policy = 2":                                                         {cannot: "no command: tests of packaging/spire read it"},
	"cima-spire.7: spire-server entry create -parentID spiffe://example.org/nodes \\":       {cannot: "needs spire-server: make proof-spire"},
	"cima-spire.7: [power]": {cannot: "no command: a part of a policy"},
	"cima-from-05.7: // was: github.com/cc-api/.../sdk/golang/cima":                                    {cannot: "no command: rpc/compat's tests and 0.5's own example compile it"},
	"cima-reference-values.7: cimactl predict boot --policy --name shop \\":                            {cannot: "needs a firmware and a UKI: make proof-boot"},
	"cima-reference-values.7: cimactl policy add-google gcp endorsement.binarypb --root google.crt":    {cannot: "needs Google's endorsement and root: tests of hw/verify/endorsed"},
	"cima-reference-values.7: {\"publisher\": \"example.org\",":                                        {cannot: "its digests are cut short: tests of hw/verify/endorsed"},
	"cima-reference-values.7: DIGEST=$(crane digest registry.example/web:1.2)":                         {cannot: "needs a registry, crane and cosign"},
	"cima-reference-values.7: cimactl policy add-image web build/web.tar   # docker save, or a layout": {before: "mkdir -p build; docker save hello:1 >build/web.tar"},
	"cima-reference-values.7: sh reference/compute >computed.new": {
		before: "mkdir -p reference; echo 'echo x = 1' >reference/compute; echo x = 1 >reference/computed.toml; : >reference/ours.toml",
	},
	"cima-relying-party.7: cimactl policy init evidence.json --online >policy.toml": {change: [][]string{online}},
	"cima-relying-party.7: cimactl policy test policy.toml good/*.json      # must meet it": {
		before: "mkdir -p good other; cp evidence.json good; sed 's/\"claims\":{/&\"x\":1,/' evidence.json >other/forged.json",
		change: [][]string{{"good/*.json ", "good/*.json --trust-root $ROOT "}, {"other/*.json ", "other/*.json --trust-root $ROOT "}}, exit: 2,
	},
	"cima-relying-party.7: sha512sum <key.pub | cut -d' ' -f1 >bound": {
		before: "echo key >key.pub; sha512sum <key.pub | cut -d' ' -f1 >bound; cimactl evidence --nonce \"$NONCE\" --user-data bound >evidence.json",
		change: [][]string{online},
	},
	"cima-relying-party.7: cimactl convert evidence.json --format trustee-request >request.json": {},
	"cima-relying-party.7: jq -n --arg p \"$(basenc --base64url -w0 trustee.rego | tr -d =)\" \\": {
		before: "cp rpc/form/trustee.rego .",
		change: [][]string{ // Trustee's service isn't here: what it would be sent
			{"curl -d @- -H 'Content-Type: application/json' \\\n        https://as/policy", `jq -e 'keys == ["policy", "policy_id", "type"] and (.policy | test("^[A-Za-z0-9_-]+$"))'`},
			{"curl -d @- -H 'Content-Type: application/json' \\\n        https://as/attestation", `jq -e '.policy_ids == ["cima"] and .verification_requests[0].tee == "tdx"'`},
		},
	},
	"cimactl.1: docker run --rm -v /run/cima:/run/cima:ro IMAGE cimactl whoami": {change: [][]string{{"IMAGE cimactl", "hello:1 /cimactl"}}},
	"cimactl.1: NONCE=$(cimactl nonce)":                                         {exit: 2}, // evidence of another nonce, and a simulated root
	"cimad.8: [launch]":                                                         {reads: "cat >x.toml; cimad-sim --check-config --config x.toml"},
	"cimad.8: systemctl enable --now cima-metrics.timer":                        {cannot: "needs systemd: a test of packaging runs the unit's command"},
	"cimad.8: [Service]":                                                        {cannot: "no command: a part of a unit"},
	"cimad.8: docker run -v /run/cima:/run/cima:ro …": {
		change: [][]string{{"ro …", "ro hello:1 /cimactl whoami"}, {"podman run --device cima-project.github.io/agent=default …", ""}}, // CDI is the VM's to show
	},
	"cimad.toml.5: [[access]]": {reads: "cat >x.toml; cimad-sim --check-config --config x.toml"},
}

// online stands for Intel's service, which knows no simulated TD.
var online = []string{"--online", "--trust-root $ROOT"}

// unnetworked: containers have no network here, and are reached by their sockets.
var unnetworked = [][]string{
	{"-p 8443:8443", "--network none"},
	{"--listen :8443", "--listen unix:/s.sock"},
	{"127.0.0.1:8443", "unix:/proc/$(docker inspect --format '{{.State.Pid}}' shop)/root/s.sock"},
}

// indented are the blocks of code of a page: indented by four, in a list by eight.
func indented(t *testing.T, path string) (found []block) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	item, after := false, true
	var within *block
	for i, line := range strings.Split(string(text), "\n") {
		by := "    "
		if item {
			by = "        "
		}
		code, is := strings.CutPrefix(line, by)
		switch {
		case strings.TrimSpace(line) == "":
			after = true
			if within != nil {
				within.text += "\n"
			}
			continue
		case is && within != nil:
			within.text += code + "\n"
		case is && after:
			within = &block{file: strings.TrimSuffix(filepath.Base(path), ".md"), line: i + 1, text: code + "\n"}
		default:
			if within != nil {
				found, within = append(found, *within), nil
			}
			if line[0] != ' ' {
				item = regexp.MustCompile(`^(: |- |[0-9]+\. )`).MatchString(line)
			}
		}
		after = false
	}
	if within != nil {
		found = append(found, *within)
	}
	return found
}

// The manual's examples run as they are printed; what must be another thing here is in
// the list.
func TestManual(t *testing.T) {
	pages, err := filepath.Glob("../../../man/*.[1-8].md")
	if err != nil || len(pages) < 8 {
		t.Fatal(pages, err)
	}
	var blocks []block
	seen := make(map[string]bool)
	for _, page := range pages {
		for _, b := range indented(t, page) {
			key := keyOf(b)
			if _, known := examples[key]; !known {
				t.Errorf("%s: how does this example run? %s", b, key)
			}
			seen[key] = true
			blocks = append(blocks, b)
		}
	}
	for key := range examples {
		if !seen[key] {
			t.Errorf("%s is no example of the manual", key)
		}
	}
	if t.Failed() {
		return
	}
	m := newTerminal(t)
	m.env = append(m.env, "ROOT=/run/cima-td/root.pem", "PATH="+filepath.Join(m.dir, "bin")+":"+os.Getenv("PATH"))
	m.run([]block{{text: `make build
printf "[limits]\\nquotes_per_minute = 6000\\nquotes_burst = 100\\n" >/tmp/cimad.toml
setsid cimad-sim --config /tmp/cimad.toml 2>/tmp/cimad-sim.log &
cimactl whoami --wait 1m
cimactl status --wait 1m
tar -C bin -c cimactl | docker import - hello:1
`}}, 0)
	// The next test's daemon must not go on with this one's log and TD. /run is ours alone.
	defer m.run([]block{{text: "pkill -x cimad-sim || true\nwhile pgrep -x cimad-sim; do sleep 0.1; done\nrm -rf /run/cima* /run/log/cima\n"}}, 0)
	for i, b := range blocks {
		how := examples[keyOf(b)]
		if how.cannot != "" || how.joins {
			continue
		}
		for _, c := range how.change {
			b.text = strings.ReplaceAll(b.text, c[0], c[1])
		}
		for _, next := range blocks[i+1:] {
			more := examples[keyOf(next)]
			if !more.joins {
				break
			}
			for _, c := range more.change {
				next.text = strings.ReplaceAll(next.text, c[0], c[1])
			}
			b.text += next.text
			how.exit, how.prints = more.exit, append(how.prints, more.prints...)
		}
		if how.reads != "" {
			b.text = how.reads + " <<'EOF'\n" + b.text + "EOF\n"
		}
		// Each block begins with fresh evidence and the policy of it.
		b.text = `nonce=$(head -c 32 /dev/urandom | base64)
NONCE=$(echo "$nonce" | base64 -d | od -An -v -tx1 | tr -d ' \n')
cimactl evidence --nonce "$NONCE" >evidence.json
cimactl policy init evidence.json --trust-root $ROOT --waive collateral,host-input-unknown 2>/dev/null |
    sed 's/units = .*/any = true/' >policy.toml # the caller is of no unit here
` + how.before + "\n" + b.text
		out := m.run([]block{b}, how.exit)
		if testing.Verbose() {
			t.Logf("%s\n%s", b, out)
		}
		for _, want := range how.prints {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not printed:\n%s", b, want, out)
			}
		}
	}
}

func keyOf(b block) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(b.text, "set -eu\n"), "\n")
	return b.file + ": " + first
}

package compose

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/daemon/launch/predict"
)

func testImage(t testing.TB) predict.Image {
	t.Helper()
	c, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["A=image"],"Entrypoint":["/entry"],"Cmd":["cmd"],"Volumes":{"/vol":{}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	users, err := predict.ParseUsers(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return predict.Image{Config: c, Users: users}
}

func readFile(name string) ([]byte, error) {
	text, ok := map[string]string{
		"web.env":   "# a comment\nexport F1=one # more\nF2='two # $words'\nF3=\"three\"\n\nF4=\n",
		"raw.env":   "F1='quoted'\n",
		"labels":    "a=file\nb=file\n",
		"shell.env": "F1=$HOME\n",
	}[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text), nil
}

// container reads the service "s" of a file with these lines.
func container(t testing.TB, lines string) (*predict.Container, error) {
	t.Helper()
	text := "name: proj\nservices:\n  s:\n"
	rest, top, _ := strings.Cut(lines, "\n---\n")
	for line := range strings.Lines(rest) {
		text += "    " + line
	}
	f, err := Read([]byte(text+"\n"+top), "", readFile)
	if err != nil {
		return nil, err
	}
	return f.Container("s")
}

const plain = `{"arguments":["/entry","cmd"],"working_directory":"/","user":{"uid":0,"gid":0},"mounts":[{"destination":"/vol","type":"bind","anonymous":true}]}`

func TestServicesAsk(t *testing.T) {
	for lines, want := range map[string]string{
		"image: i": `{}`,
		"image: i\ncontainer_name: x\nports: ['80:80']\nrestart: always\nmem_limit: 1g\ncpus: 0.5\nnetworks: [a]\nx-y: z\nprofiles: [p]\ndepends_on: {db: {condition: service_healthy}}": `{}`,
		"command: [a, 1, true]":                                          `{"arguments":["/entry","a","1","true"]}`,
		"command: a 'b c' \"d\" $$E *.go":                                `{"arguments":["/entry","a","b c","d","$E","*.go"]}`,
		"command: null":                                                  `{}`,
		"command: []":                                                    `{}`,
		"entrypoint: /x y\ncommand: z":                                   `{"arguments":["/x","y","z"]}`,
		"entrypoint: [/x]":                                               `{"arguments":["/x"]}`,
		"entrypoint: []":                                                 `{"arguments":["cmd"]}`,
		"environment: {B: 1, A: image, C: ''}":                           `{"environment":[{"name":"B"},{"name":"C"}]}`,
		"environment: [P=x, LD_X=$$y]":                                   `{"environment":[{"name":"LD_X","value":"$y"},{"name":"P","value":"x"}]}`,
		"env_file: web.env\nenvironment: {P: line}":                      `{"environment":[{"name":"F1"},{"name":"F2"},{"name":"F3"},{"name":"F4"},{"name":"P","value":"line"}]}`,
		"env_file: [{path: raw.env, format: raw, required: true}]":       `{"environment":[{"name":"F1"}]}`,
		"user: '7:8'\ngroup_add: [9, '10']":                              `{"user":{"uid":7,"gid":8,"additional_gids":[9,10]}}`,
		"working_dir: /w\ntty: true\nread_only: 'true'":                  `{"working_directory":"/w","terminal":true,"root_read_only":true}`,
		"hostname: h\ndomainname: d":                                     `{"hostname":"h","sysctls":{"kernel.domainname":"d"}}`,
		"cap_add: [NET_ADMIN]\ncap_drop: [ALL]":                          `{"capabilities":{"added":["CAP_NET_ADMIN"],"dropped":["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_FSETID","CAP_KILL","CAP_NET_BIND_SERVICE","CAP_SETFCAP","CAP_SETGID","CAP_SETPCAP","CAP_SETUID","CAP_SYS_CHROOT"]}}`,
		"security_opt: ['no-new-privileges:true', 'seccomp=unconfined']": `{"no_new_privileges":true,"seccomp":"unconfined"}`,
		"sysctls: {net.a: 1}":                                            `{"sysctls":{"net.a":"1"}}`,
		"sysctls: [net.a=1]":                                             `{"sysctls":{"net.a":"1"}}`,
		"network_mode: 'service:db'\npid: host":                          `{"namespaces":{"network":"joined","pid":"host"}}`,
		"ipc: shareable\nuts: host":                                      `{"namespaces":{"uts":"host"}}`,
		"annotations: {a.b: c}":                                          `{"annotations":{"a.b":"c"}}`,
		"labels: {l: v}\nlabel_file: labels":                             `{"labels":{"l":"v","a":"file"}}`,
		"label_file: labels\nlabels: [a=service]":                        `{"labels":{"a":"service"}}`,
		"tmpfs: '/vol:size=1m'":                                          `{"mounts":[{"destination":"/vol","type":"tmpfs","options":["size=1m"]}]}`,
		"tmpfs: [/vol]":                                                  `{"mounts":[{"destination":"/vol","type":"tmpfs"}]}`,
		"volumes: ['/srv/x:/vol:ro']":                                    `{"mounts":[{"destination":"/vol","type":"bind","options":["ro"],"source":"/srv/x"}]}`,
		"volumes: ['data:/vol']\n---\nvolumes: {data: }":                 `{"mounts":[{"destination":"/vol","type":"bind","volume":"proj_data"}]}`,
		"volumes: ['data:/vol']\n---\nvolumes: {data: {name: x}}":        `{"mounts":[{"destination":"/vol","type":"bind","volume":"x"}]}`,
		"volumes: ['data:/vol']\n---\nvolumes: {data: {external: true, driver: local}}":                                               `{"mounts":[{"destination":"/vol","type":"bind","volume":"data"}]}`,
		"volumes: [{type: bind, source: /srv/x, target: /vol, read_only: true, bind: {propagation: rslave, create_host_path: true}}]": `{"mounts":[{"destination":"/vol","type":"bind","options":["ro","rslave"],"source":"/srv/x"}],"members":{"linux.rootfsPropagation":"slave"}}`,
		"volumes: [{type: volume, target: /vol, volume: {nocopy: true}}]":                                                             `{}`,
		"volumes: [{type: tmpfs, target: /vol, tmpfs: {size: 1048576, mode: '01777'}}]":                                               `{"mounts":[{"destination":"/vol","type":"tmpfs","options":["mode=1777","size=1m"]}]}`,
		"volumes: [{type: tmpfs, target: /vol, tmpfs: {size: 64m, mode: 448}}]":                                                       `{"mounts":[{"destination":"/vol","type":"tmpfs","options":["mode=700","size=64m"]}]}`,
		"devices: ['/dev/null:/dev/x']":                  `{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,"mode":438,"uid":0,"gid":0}]}`,
		"devices: [{source: /dev/full, permissions: r}]": `{"devices":[{"path":"/dev/full","type":"c","major":1,"minor":7,"mode":438,"uid":0,"gid":0}],"device_rules":[{"allow":true,"type":"c","major":1,"minor":7,"access":"r"}]}`,
		"device_cgroup_rules: ['c 10:200 rwm']":          `{"device_rules":[{"allow":true,"type":"c","major":10,"minor":200,"access":"mrw"}]}`,
		"secrets: [a, {source: b, target: /b, mode: 256}, c]\nconfigs: [d]\n---\nsecrets: {a: {file: /f/a}, b: {file: /f/b}, c: {environment: C}}\nconfigs: {d: {file: /f/d}}": `{"mounts":[{"destination":"/b","type":"bind","options":["ro"],"source":"/f/b"},{"destination":"/d","type":"bind","options":["ro"],"source":"/f/d"},{"destination":"/run/secrets/a","type":"bind","options":["ro"],"source":"/f/a"},{"destination":"/vol","type":"bind","anonymous":true}]}`,
		"deploy: {replicas: 2, resources: {limits: {cpus: '1'}}}": `{}`,
	} {
		c, err := container(t, lines)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		p, err := predict.Predict(c, testImage(t), predict.Host{LSM: "none"}, launch.Rules{Public: []string{"P"}, Labels: []string{"l", "a"}})
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		var expected, got map[string]any
		for _, text := range []string{plain, want} {
			if err := json.Unmarshal([]byte(text), &expected); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(p.Launch.Asked)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, got); diff != "" || len(p.Unknown) > 0 {
			t.Errorf("%s: %v\n%s", lines, p.Unknown, diff)
		}
	}
}

func TestWhatCannotBeKnown(t *testing.T) {
	for lines, want := range map[string]string{
		"environment: [B]":                          "asked.environment B",
		"environment: {B: }":                        "asked.environment B",
		"env_file: [{path: none, required: false}]": "asked.environment",
		"gpus: all":                                 "asked",
		"models: [m]":                               "asked.environment",
		"volumes_from: [x]":                         "asked.mounts",
		"use_api_socket: true":                      "asked.mounts",
		"userns_mode: x":                            "asked.members",
		"devices: ['/dev/kvm']":                     "asked.devices /dev/kvm",
		"devices: ['vendor.com/x=y']":               "asked",
		"deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}":   "asked",
		"volumes: ['data:/x']\n---\nvolumes: {data: {driver: nfs}}":                 "asked.mounts /x",
		"volumes: [{type: image, source: x, target: /x}]":                           "asked.mounts /x",
		"volumes: [{type: volume, source: data, target: /x, volume: {subpath: y}}]": "asked.mounts /x",
	} {
		c, err := container(t, lines)
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		p, err := predict.Predict(c, testImage(t), predict.Host{LSM: "none"}, launch.Rules{})
		if err != nil || !slices.ContainsFunc(p.Unknown, func(u predict.Unknown) bool { return u.Fact == want }) {
			t.Errorf("%s: %v, %v", lines, p, err)
		}
	}
	f, err := Read([]byte("services: {s: {volumes: ['data:/x']}}\nvolumes: {data: }"), "", readFile)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Container("s"); err != nil || len(c.Unknown) != 1 || !strings.Contains(c.Unknown[0].Why, "project") {
		t.Errorf("a volume without a project's name: %v, %v", c, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	for lines, want := range map[string]string{
		"frobnicate: x":                                  "frobnicate: line 4: the key is not known",
		"image: a\nimage: b":                             "twice",
		"image: ${TAG}":                                  "${TAG}",
		"environment: {A: $B}":                           "$B",
		"extends: {service: x}":                          "another service",
		"provider: {type: x}":                            "runs no container",
		"env_file: shell.env":                            "shell.env: line 1",
		"env_file: none":                                 "not exist",
		"env_file: [{path: web.env, x: y}]":              `"x" is not known`,
		"volumes: ['./a:/a']":                            "relative",
		"volumes: [{type: bind, source: a, target: /a}]": "relative",
		"volumes: ['data:/a']":                           "among the file's volumes",
		"volumes: ['/a:/a:xyz']":                         "xyz",
		"volumes: [{type: x, target: /a}]":               `unknown type "x"`,
		"volumes: [{type: bind, source: /a, target: /a, bind: {x: y}}]": `"x" is not known`,
		"volumes: [{type: bind, source: /a, target: /a, x: y}]":         `"x" is not known`,
		"secrets: [a]": "among those",
		"secrets: [a]\n---\nsecrets: {a: {external: true}}": "external",
		"secrets: [a]\n---\nsecrets: {a: {file: ./a}}":      "relative",
		"command: 'a | b'":                    "more than one command",
		"command: \"a \\\"\\\\n\\\"\"":        "programs read differently",
		"tty: maybe":                          "true or false",
		"pid: x":                              "host, private",
		"security_opt: [x=y]":                 `"x"`,
		"cap_add: {a: b}":                     "string",
		"image: i\n---\ninclude: [x]":         "include",
		"image: i\n---\nfrob: x":              `"frob" is not known`,
		"image: i\n---\nvolumes: {v: {x: y}}": `"x" is not known`,
		"environment: ['=x']":                 "name",
		"devices: [a]":                        "HOST",
	} {
		c, err := container(t, lines)
		if err == nil {
			_, err = predict.Predict(c, testImage(t), predict.Host{}, launch.Rules{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, and no %q", lines, err, want)
		}
	}
	for _, text := range []string{"", "services: {}", "a: [", "services: [a]", "name: x"} {
		if f, err := Read([]byte(text), "", readFile); err == nil {
			t.Errorf("%q has the services %q", text, f.Services())
		}
	}
	f, err := Read([]byte("services: {b: {}, a: {}}"), "p", readFile)
	if err != nil || !slices.Equal(f.Services(), []string{"a", "b"}) {
		t.Fatal(err)
	}
	if _, err := f.Container("c"); err == nil || !strings.Contains(err.Error(), `["a" "b"]`) {
		t.Error(err)
	}
	var h interface{ Hint() string }
	if _, err := container(t, "image: $X"); !errors.As(err, &h) || !strings.Contains(h.Hint(), "docker compose config") {
		t.Errorf("no hint: %v", err)
	}
}

// serviceKeys are those of the Compose Specification's schema.
const serviceKeys = `develop deploy annotations attach build blkio_config cap_add cap_drop cgroup cgroup_parent command configs container_name
	cpu_count cpu_percent cpu_shares cpu_quota cpu_period cpu_rt_period cpu_rt_runtime cpus cpuset credential_spec depends_on
	device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file label_file environment expose extends
	provider external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation labels links logging
	mac_address mem_limit mem_reservation mem_swappiness memswap_limit network_mode models networks oom_kill_disable
	oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles pull_policy pull_refresh_after
	read_only restart runtime scale security_opt shm_size secrets sysctls stdin_open stop_grace_period stop_signal
	storage_opt tmpfs tty ulimits use_api_socket user uts userns_mode volumes volumes_from working_dir`

func TestEveryKeyHasAFate(t *testing.T) {
	table := keys()
	for _, name := range strings.Fields(serviceKeys) {
		if _, ok := table[name]; !ok {
			t.Errorf("%s has no fate", name)
		}
		delete(table, name)
	}
	for name := range table {
		t.Errorf("the specification has no key %s", name)
	}
}

// Any file gives an error, or services that give an error or the same container each
// time.
func FuzzCompose(f *testing.F) {
	f.Add([]byte("services: {s: {image: i, volumes: ['a:/b', {type: tmpfs, target: /c}], environment: [A=1]}}\nvolumes: {a: }"))
	f.Add([]byte("x: &x {command: a b}\nservices:\n  s:\n    <<: *x\n    env_file: [web.env]\n"))
	image := testImage(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Read(text, "p", readFile)
		if err != nil {
			return
		}
		for _, name := range file.Services() {
			var digests []string
			for range 2 {
				c, err := file.Container(name)
				if err != nil {
					return
				}
				p, err := predict.Predict(c, image, predict.Host{}, launch.Rules{})
				if err != nil {
					return
				}
				digests = append(digests, p.Digest)
			}
			if digests[0] != digests[1] {
				t.Fatalf("%q: two digests", text)
			}
		}
	})
}

// Any file of variables gives an error, or names and values that are UTF-8.
func FuzzVariables(f *testing.F) {
	f.Add("A=1\nexport B='x' # y\nC=\"z\"\n", false)
	f.Fuzz(func(t *testing.T, text string, raw bool) {
		all, err := parseVariables(text, raw)
		for _, p := range all {
			if err == nil && !variableName.MatchString(p.name) {
				t.Fatalf("%q is a name", p.name)
			}
		}
	})
}

package predict

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cima-project/cima/daemon/launch"
)

// testImage is an image with an entry of each kind.
func testImage(t testing.TB, users bool) Image {
	t.Helper()
	c, err := launch.ParseImageConfig([]byte(`{"config":{"Env":["PATH=/bin","A=image"],"Entrypoint":["/entry"],"Cmd":["cmd"],"User":"app","WorkingDir":"/home/app","Volumes":{"/vol":{}},"Labels":{"l":"image"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	i := Image{Config: c}
	if users {
		if i.Users, err = ParseUsers([]byte(testPasswd), []byte(testGroup)); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func predictLine(t testing.TB, line string, image Image, host Host, rules launch.Rules) *Prediction {
	t.Helper()
	c, err := Line(line, readTestFile)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	p, err := Predict(c, image, host, rules)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return p
}

// What is asked for beyond the line "docker run IMAGE", as JSON.
const plain = `{"arguments":["/entry","cmd"],"working_directory":"/home/app","user":{"uid":1000,"gid":1001,"additional_gids":[10]},"mounts":[{"destination":"/vol","type":"bind","anonymous":true}]}`

func TestLinesAsk(t *testing.T) {
	for line, want := range map[string]string{
		"docker run i":                                                               `{}`,
		"sudo docker container create i":                                             `{}`,
		"/usr/bin/docker -H tcp://x run i":                                           `{}`,
		"docker run --rm -itd --name x i":                                            `{"terminal":true}`,
		"docker run i a b":                                                           `{"arguments":["/entry","a","b"]}`,
		"docker run --entrypoint /e i":                                               `{"arguments":["/e"]}`,
		"docker run --entrypoint '' i a":                                             `{"arguments":["a"]}`,
		"docker run -e A=1 -e B=2 -e A=3 i":                                          `{"environment":[{"name":"A"},{"name":"B"}]}`,
		"docker run -e A=image i":                                                    `{}`,
		"docker run --env-file /run/env i":                                           `{"environment":[{"name":"F1"},{"name":"F2"}]}`,
		"docker run -e LD_PRELOAD=/x.so i":                                           `{"environment":[{"name":"LD_PRELOAD","value":"/x.so"}]}`,
		"docker run -e P=1 -l l=line i":                                              `{"environment":[{"name":"P","value":"1"}],"labels":{"l":"line"}}`,
		"docker run -u 7:8 i":                                                        `{"user":{"uid":7,"gid":8}}`,
		"docker run -u root i":                                                       `{"user":{"uid":0,"gid":0,"additional_gids":[1,10]}}`,
		"docker run -u 7 --group-add bin i":                                          `{"user":{"uid":7,"gid":0,"additional_gids":[1]}}`,
		"docker run -w /x/../y i":                                                    `{"working_directory":"/y"}`,
		"docker run --read-only i":                                                   `{"root_read_only":true}`,
		"docker run --cap-add net_admin i":                                           `{"capabilities":{"added":["CAP_NET_ADMIN"]}}`,
		"docker run --cap-drop chown i":                                              `{"capabilities":{"dropped":["CAP_CHOWN"]}}`,
		"docker run --cap-drop MKNOD i":                                              `{}`,
		"docker run --pid host i":                                                    `{"namespaces":{"pid":"host"}}`,
		"docker run --network=container:x i":                                         `{"namespaces":{"network":"joined"}}`,
		"docker run --network a --net b i":                                           `{}`,
		"docker run -h h i":                                                          `{"hostname":"h"}`,
		"docker run --sysctl net.a=1 i":                                              `{"sysctls":{"net.a":"1"}}`,
		"docker run -m 1g --cpus 2 i":                                                `{}`,
		"docker run --security-opt no-new-privileges i":                              `{"no_new_privileges":true}`,
		"docker run --security-opt no-new-privileges=false i":                        `{}`,
		"docker run --security-opt seccomp:unconfined i":                             `{"seccomp":"unconfined"}`,
		"docker run --device /dev/null:/dev/x:r i":                                   `{"devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,"mode":438,"uid":0,"gid":0}],"device_rules":[{"allow":true,"type":"c","major":1,"minor":3,"access":"r"}]}`,
		"docker run --device /dev/fuse i":                                            `{"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229,"mode":438,"uid":0,"gid":0}],"device_rules":[{"allow":true,"type":"c","major":10,"minor":229,"access":"mrw"}]}`,
		"docker run --device-cgroup-rule 'b *:* m' i":                                `{}`,
		"docker run --device-cgroup-rule 'b 8:* rw' i":                               `{"device_rules":[{"allow":true,"type":"b","major":8,"access":"rw"}]}`,
		"docker run -v /a/:/vol:ro i":                                                `{"mounts":[{"destination":"/vol","type":"bind","options":["ro"],"source":"/a"}]}`,
		"docker run -v v:/vol i":                                                     `{"mounts":[{"destination":"/vol","type":"bind","volume":"v"}]}`,
		"docker run --mount dst=/vol,src=v i":                                        `{"mounts":[{"destination":"/vol","type":"bind","volume":"v"}]}`,
		"docker run --mount type=bind,src=/a,dst=/vol,ro i":                          `{"mounts":[{"destination":"/vol","type":"bind","options":["ro"],"source":"/a"}]}`,
		"docker run --mount type=tmpfs,dst=/vol,tmpfs-mode=700 i":                    `{"mounts":[{"destination":"/vol","type":"tmpfs","options":["mode=700"]}]}`,
		"podman run --umask 77 --image-volume ignore i":                              `{"mounts":null,"user":{"uid":1000,"gid":1001,"additional_gids":[10],"umask":63}}`,
		"podman --log-level debug create --image-volume ignore --log-level=info i":   `{"mounts":null}`,
		"podman run --unsetenv A --image-volume ignore i":                            `{"mounts":null,"environment":[{"name":"A","unset":true}]}`,
		"podman run --read-only --image-volume ignore i":                             `{"root_read_only":true,"mounts":null}`,
		"podman run --tmpfs /t:exec --image-volume ignore i":                         `{"mounts":[{"destination":"/t","type":"tmpfs","options":["exec"]}]}`,
		"podman run --cap-add net_admin,sys_time --image-volume ignore -u 0:0 i":     `{"mounts":null,"user":{"uid":0,"gid":0},"capabilities":{"added":["CAP_NET_ADMIN","CAP_SYS_TIME"]}}`,
		"podman run --entrypoint '[\"/e\",\"f\"]' --image-volume ignore i":           `{"mounts":null,"arguments":["/e","f"]}`,
		"podman run --systemd=false --entrypoint /sbin/init --image-volume ignore i": `{"mounts":null,"arguments":["/sbin/init"]}`,
		"podman run --cap-add net_admin --image-volume ignore i":                     `{"mounts":null,"capabilities":{"added":["CAP_NET_ADMIN"],"ambient":["CAP_NET_ADMIN"]}}`,
		"podman run --annotation a=b --image-volume ignore i":                        `{"mounts":null,"annotations":{"a":"b"}}`,
		"podman run --entrypoint '' --image-volume ignore i":                         `{"mounts":null,"arguments":["cmd"]}`,
	} {
		host := Host{LSM: "none", Devices: map[string]Node{"/dev/fuse": {"c", 10, 229, 0o666, 0, 0}}}
		p := predictLine(t, line, testImage(t, true), host, launch.Rules{Public: []string{"P"}, Labels: []string{"l"}})
		expected := make(map[string]any)
		for _, text := range []string{plain, `{"labels":{"l":"image"}}`, want} {
			if strings.HasPrefix(line, "podman") && strings.Contains(text, "labels") {
				continue
			}
			if err := json.Unmarshal([]byte(text), &expected); err != nil {
				t.Fatal(err)
			}
		}
		if expected["mounts"] == nil {
			delete(expected, "mounts")
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(asked(t, p.Launch.Asked)), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expected, got); diff != "" || len(p.Unknown) > 0 {
			t.Errorf("%s: %v\n%s", line, p.Unknown, diff)
		}
	}
}

// What only the host or the engine knows is named, and the launch has a digest only
// where something is assumed instead.
func TestWhatCannotBeKnown(t *testing.T) {
	for line, want := range map[string]string{
		"docker run -e A i":                                              "asked.environment A",
		"docker run --gpus all i":                                        "asked",
		"docker run --device /dev/kvm i":                                 "asked.devices /dev/kvm",
		"docker run --device vendor.com/class=x i":                       "asked",
		"docker run --volumes-from x i":                                  "asked.mounts",
		"docker run --volume-driver nfs i":                               "asked.mounts",
		"docker run --link x i":                                          "asked.environment",
		"docker run --use-api-socket i":                                  "asked.mounts",
		"docker run --userns=x i":                                        "asked.members",
		"docker run --mount type=image,src=x,dst=/x i":                   "asked.mounts /x",
		"docker run --mount type=volume,src=x,dst=/x,volume-subpath=a i": "asked.mounts /x",
		"docker run --init i":                                            "asked.mounts /sbin/docker-init ?",
		"docker run --privileged i":                                      "asked.capabilities ?",
		"docker run --cap-add all i":                                     "asked.capabilities ?",
		"podman run --env-host i":                                        "asked.environment",
		"podman --hooks-dir /x run i":                                    "asked.hooks",
		"podman run --userns auto i":                                     "asked.members",
		"podman run --systemd always i":                                  "asked.mounts",
		"podman run -v /a:/a:O i":                                        "asked.mounts /a",
		"podman run --secret x i":                                        "asked",
		"podman run --annotation a=b,c=d i":                              "asked.annotations",
		"podman run --entrypoint /sbin/init i":                           "asked.mounts",
		"podman run --entrypoint /bin/sh i -c /usr/lib/systemd/systemd":  "asked.mounts",
		"podman run i /sbin/init":                                        "asked.mounts",
		"podman run -l io.containers.capabilities=CHOWN i":               "asked.capabilities",
		"podman run --pod x i":                                           "asked.namespaces",
	} {
		p := predictLine(t, line, testImage(t, true), Host{LSM: "none"}, launch.Rules{})
		fact, assumed := strings.CutSuffix(want, " ?")
		i := slices.IndexFunc(p.Unknown, func(u Unknown) bool { return u.Fact == fact })
		if i < 0 || (p.Unknown[i].Assumed != "") != assumed || p.Unknown[i].Why == "" || (p.Digest != "") != assumed {
			t.Errorf("%s: digest %q, unknown %q", line, p.Digest, p.Unknown)
		}
	}
	for line, unknown := range map[string]int{"docker run i": 1, "docker run -u 7 i": 1, "docker run -u 7:8 i": 0, "docker run -u 7:app i": 1} {
		if p := predictLine(t, line, testImage(t, false), Host{}, launch.Rules{}); len(p.Unknown) != unknown {
			t.Errorf("%s without the image's files: %q", line, p.Unknown)
		}
	}
	p := predictLine(t, "docker run --security-opt apparmor=unconfined i", testImage(t, true), Host{}, launch.Rules{})
	with := predictLine(t, "docker run --security-opt apparmor=unconfined i", testImage(t, true), Host{LSM: "apparmor"}, launch.Rules{})
	if len(p.Unknown) != 1 || with.Launch.Asked.AppArmor != "unconfined" || with.Digest == p.Digest {
		t.Errorf("AppArmor: %q, %+v", p.Unknown, with.Launch.Asked)
	}
}

func TestLinesThatAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"":                                      "empty",
		"A=1 docker run i":                      "variable before",
		"nerdctl run i":                         "neither docker nor podman",
		"sudo -u x docker run i":                "sudo -u",
		"docker ps":                             `"ps"`,
		"docker compose run i":                  `"compose run"`,
		"docker run":                            "no image",
		"docker run --frobnicate i":             "--frobnicate",
		"podman run --domainname x i":           "--domainname",
		"docker run -v ./a:/a i":                "relative",
		"docker run -v a/b:/a i":                "absolute path or a volume's name",
		"docker run -v /a:/a:xyz i":             "xyz",
		"docker run -v /a:b i":                  "absolute",
		"docker run -v /a:/b -v /c:/b/ i":       "two mounts",
		"docker run -v a:b:c:d i":               "[SOURCE:]PLACE",
		"docker run --mount type=x,dst=/a i":    `type "x"`,
		"docker run --mount type=bind,src=/a i": "target",
		"docker run --mount type=tmpfs,dst=/a,tmpfs-size=x i":   "number of bytes",
		"docker run --mount type=tmpfs,dst=/a,tmpfs-size=NaN i": "number of bytes",
		"docker run --cap-add x i":                              "CAP_X",
		"docker run --device a i":                               "HOST",
		"docker run --device-cgroup-rule x i":                   "TYPE MAJOR:MINOR",
		"docker run --device-cgroup-rule 'c 99999999999:1 r' i": "32 bits",
		"docker run --security-opt x=y i":                       `option "x"`,
		"docker run --sysctl x i":                               "NAME=VALUE",
		"docker run -t=x i":                                     "true or false",
		"docker run --pid x i":                                  "--pid",
		"docker run -u nobody i":                                `no user "nobody"`,
		"docker run -u 0:nobody i":                              `no group "nobody"`,
		"docker run --env-file /none i":                         "not exist",
		"podman run --umask 9 i":                                "octal",
		"podman run --image-volume x i":                         "anonymous",
		"docker run -e =x i":                                    "name",
		"docker run i\x00":                                      "NUL",
		"docker run \xff":                                       "UTF-8",
	} {
		c, err := Line(line, readTestFile)
		if err == nil {
			_, err = Predict(c, testImage(t, true), Host{}, launch.Rules{})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, and no %q", line, err, want)
		}
	}
	var h interface{ Hint() string }
	if _, err := Line("docker run --frobnicate i", nil); !errors.As(err, &h) || !strings.Contains(h.Hint(), "cimactl(1)") {
		t.Errorf("an unknown flag has no hint: %v", err)
	}
	if _, err := Predict(&Container{Engine: Docker}, Image{Config: &launch.ImageConfig{}}, Host{}, launch.Rules{}); err == nil {
		t.Error("a container without a command was predicted")
	}
}

// Any line gives an error, or a container whose prediction is the same each time.
func FuzzLine(f *testing.F) {
	for _, line := range []string{"docker run -v a:/b:ro --tmpfs /x:size=1m i c", "podman run -u a:b --mount type=bind,src=/a,dst=/b i", "docker run --device /dev/null -e A i", "podman run --uidmap 0:1:2,3:4:5 --cap-drop all i", "docker run --mount '\"a' i"} {
		f.Add(line)
	}
	image := testImage(f, true)
	f.Fuzz(func(t *testing.T, line string) {
		c, err := Line(line, readTestFile)
		if err != nil {
			return
		}
		first, err := Predict(c, image, Host{}, launch.Rules{})
		if err != nil {
			return
		}
		second, err := Predict(c, image, Host{}, launch.Rules{})
		if err != nil || first.Digest != second.Digest {
			t.Fatalf("%q: %q, then %q, %v", line, first.Digest, second.Digest, err)
		}
		if _, err := json.Marshal(first.Launch); err != nil {
			t.Fatal(err)
		}
	})
}

// Any passwd and group can be read.
func FuzzUsers(f *testing.F) {
	f.Add([]byte(testPasswd), []byte(testGroup), "app")
	f.Add([]byte("a:::::"), []byte(":x:9999999999:a,b"), ":")
	f.Fuzz(func(t *testing.T, passwd, group []byte, user string) {
		users, err := ParseUsers(passwd, group)
		if err != nil {
			return
		}
		image := testImage(t, false)
		image.Users = users
		Predict(&Container{Engine: Docker, User: user}, image, Host{}, launch.Rules{})
	})
}

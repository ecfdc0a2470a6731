package predict

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// kind is how a flag takes its values.
type kind int

const (
	boolean kind = iota // --flag, --flag=false
	single              // one value, the last counts; or one each time
	commas              // one or more each time, with commas between
)

// option is one flag of docker's or podman's. What it changes, set does. A flag without set
// changes nothing that is asked for.
type option struct {
	name, short string
	kind        kind
	set         func(*reader, string) error
}

type flags struct{ global, run []option }

// flagTables are those of both engines, at the time of docker 29 and podman 6. Podman
// takes its global flags behind the verb, too, but for the letters.
func flagTables() map[Engine]flags {
	docker := flags{parsed(dockerGlobal), append(parsed(dockerNothing), dockerFlags()...)}
	podman := flags{append(parsed(podmanGlobal), podmanGlobals()...), append(parsed(podmanNothing), podmanFlags()...)}
	for _, f := range podman.global {
		if !slices.ContainsFunc(podman.run, func(of option) bool { return of.name == f.name }) {
			f.short = ""
			podman.run = append(podman.run, f)
		}
	}
	return map[Engine]flags{Docker: docker, Podman: podman}
}

// parsed reads flags that change nothing: name, a letter after a comma, and "=" where
// the flag takes a value.
func parsed(list []string) (out []option) {
	for _, text := range list {
		for _, f := range strings.Fields(text) {
			name, takes := strings.CutSuffix(f, "=")
			k := boolean
			if takes {
				k = single
			}
			long, letter, _ := strings.Cut(name, ",")
			out = append(out, option{long, letter, k, nil})
		}
	}
	return out
}

// Flags that change nothing that is asked for, by what they are about.
var (
	// which daemon is asked, and how
	dockerGlobal = []string{"config= context,c= debug,D help,h host,H= log-level,l= tls tlscacert= tlscert= tlskey= tlsverify version,v"}

	dockerNothing = []string{
		// the client, the container's name, its image's origin, its end
		"attach,a= cidfile= detach,d detach-keys= disable-content-trust help interactive,i name= platform= pull= quiet,q restart= rm sig-proxy stop-signal= stop-timeout=",
		// its log and its health, which the engine looks after
		"health-cmd= health-interval= health-retries= health-start-interval= health-start-period= health-timeout= log-driver= log-opt= no-healthcheck",
		// networks and the engine's own files: in no bundle
		"add-host= dns= dns-opt= dns-option= dns-search= expose= ip= ip6= link-local-ip= mac-address= net-alias= network-alias= publish,p= publish-all,P",
		// quantities: shown as limits, in no digest
		"blkio-weight= blkio-weight-device= cpu-count= cpu-percent= cpu-period= cpu-quota= cpu-rt-period= cpu-rt-runtime= cpu-shares,c= cpus= cpuset-cpus= cpuset-mems= device-read-bps= device-read-iops= device-write-bps= device-write-iops= io-maxbandwidth= io-maxiops= kernel-memory= memory,m= memory-reservation= memory-swap= memory-swappiness= oom-kill-disable oom-score-adj= pids-limit= shm-size= storage-opt= ulimit=",
		// where it runs: judged as power
		"cgroup-parent= cgroupns= isolation= runtime=",
	}

	podmanGlobal = []string{
		"cgroup-manager= config= conmon= connection,c= cpu-profile= db-backend= default-mounts-file= events-backend= help,h identity= imagestore= log-level= max-workers= memory-profile= namespace= network-cmd-path= network-config-dir= noout out= pull-option= registries-conf= remote,r root= runroot= runtime= runtime-flag= ssh= storage-driver= storage-opt= syslog tls-ca= tls-cert= tls-key= tmpdir= trace transient-store url= version,v volumepath=",
	}

	podmanNothing = []string{
		// the client, the container's name, its image's origin, its end
		"arch= attach,a= authfile= cert-dir= cidfile= conmon-pidfile= creds= decryption-key= detach,d detach-keys= disable-content-trust help interactive,i name= os= override-arch= override-os= override-variant= pidfile= platform= pod-id-file= pull= quiet,q replace requires= restart= retry= retry-delay= rm rmi signature-policy= sig-proxy stop-signal= stop-timeout= timeout= tls-verify variant=",
		// its log and its health
		"health-cmd= health-interval= health-log-destination= health-max-log-count= health-max-log-size= health-on-failure= health-retries= health-start-period= health-startup-cmd= health-startup-interval= health-startup-retries= health-startup-success= health-startup-timeout= health-timeout= healthcheck-command= healthcheck-interval= healthcheck-retries= healthcheck-start-period= healthcheck-timeout= log-driver= log-opt= no-healthcheck sdnotify=",
		// networks and the engine's own files
		"add-host= dns= dns-opt= dns-option= dns-search= expose= group-entry= hosts-file= hostuser= http-proxy ip= ip6= mac-address= network-alias= no-hostname no-hosts passwd passwd-entry= publish,p= publish-all,P tz=",
		// quantities
		"blkio-weight= blkio-weight-device= cpu-period= cpu-quota= cpu-rt-period= cpu-rt-runtime= cpu-shares,c= cpus= cpuset-cpus= cpuset-mems= device-read-bps= device-read-iops= device-write-bps= device-write-iops= kernel-memory= memory,m= memory-reservation= memory-swap= memory-swappiness= oom-kill-disable oom-score-adj= pids-limit= rdt-class= shm-size= shm-size-systemd= storage-opt= ulimit=",
		// where it runs, with what it inherits: judged as power; the filter stands in the defaults
		"cgroup-parent= cgroupns= cgroups= preserve-fd= preserve-fds= seccomp-policy=",
	}
)

// Ways to take a value.

func isTrue(s string) (bool, error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q must be true or false", s)
	}
	return b, nil
}

func flagBool(name, short string, at func(*Container) *bool) option {
	return option{name, short, boolean, func(r *reader, s string) (err error) {
		*at(r.c), err = isTrue(s)
		return err
	}}
}

func flagText(name, short string, at func(*Container) *string) option {
	return option{name, short, single, func(r *reader, s string) error {
		*at(r.c) = s
		return nil
	}}
}

func flagList(name, short string, k kind, at func(*Container) *[]string) option {
	return flagEach(name, short, k, func(r *reader, s string) error {
		*at(r.c) = append(*at(r.c), s)
		return nil
	})
}

func flagMap(name string, k kind, at func(*Container) *map[string]string) option {
	return flagEach(name, "", k, func(r *reader, s string) error {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q must be NAME=VALUE", s)
		}
		if *at(r.c) == nil {
			*at(r.c) = make(map[string]string)
		}
		(*at(r.c))[name] = value
		return nil
	})
}

// flagEach calls set for each value of a list.
func flagEach(name, short string, k kind, set func(*reader, string) error) option {
	return option{name, short, k, func(r *reader, s string) error {
		list := []string{s}
		if k == commas {
			var err error
			if list, err = commaList(s); err != nil {
				return err
			}
		}
		for _, v := range list {
			if err := set(r, v); err != nil {
				return err
			}
		}
		return nil
	}}
}

// commaList reads a list with commas between, as the engines do.
func commaList(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	list, err := csv.NewReader(strings.NewReader(s)).Read()
	if err == io.EOF {
		return nil, nil
	}
	return list, err
}

// flagUnknown is a flag whose effect the host or the engine alone knows.
func flagUnknown(name string, k kind, fact, why string) option {
	return option{name, "", k, func(r *reader, s string) error {
		if k == boolean {
			if on, err := isTrue(s); err != nil || !on {
				return err
			}
			r.c.Doubt(fact, "--"+name+": "+why, "")
			return nil
		}
		r.c.Doubt(fact, fmt.Sprintf("--%s %s: %s", name, s, why), "")
		return nil
	}}
}

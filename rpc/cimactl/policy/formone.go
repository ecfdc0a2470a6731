package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// formOne is a policy of form 1, which CIMA wrote before form 2.
type formOne struct {
	Boot []bootOne `toml:"boot"`
	TD   struct {
		AllowDebug      bool     `toml:"allow_debug"`
		AllowMigratable bool     `toml:"allow_migratable"`
		ServiceTDs      []string `toml:"service_tds"`
	} `toml:"td"`
	TCB struct {
		Statuses []string `toml:"statuses"`
		MinDate  string   `toml:"min_date"`
		MinSVN   string   `toml:"min_svn"`
	} `toml:"tcb"`
	Agent struct {
		Anchors      []string `toml:"anchors"`
		AllowNewKey  bool     `toml:"allow_new_key"`
		AllowPrivate bool     `toml:"allow_private"`
	} `toml:"agent"`
	Container containerOne `toml:"container"`
	Host      struct {
		Any   bool     `toml:"any"`
		Units []string `toml:"units"`
	} `toml:"host"`
	Power struct {
		Allow []string `toml:"allow"`
	} `toml:"power"`
	Required  []patternTables `toml:"required"`
	Forbidden []patternTables `toml:"forbidden"`
}

type bootOne struct {
	Name   string `toml:"name"`
	MRTD   string `toml:"mrtd"`
	RTMR0  string `toml:"rtmr0"`
	RTMR1  string `toml:"rtmr1"`
	RTMR2  string `toml:"rtmr2"`
	OSLog  bool   `toml:"os_log"`
	Events []any  `toml:"events"`
}

type containerOne struct {
	Any           bool           `toml:"any"`
	LaunchDigests []string       `toml:"launch_digests"`
	ImageDigests  []string       `toml:"image_digests"`
	Start         []string       `toml:"start"`
	Source        []string       `toml:"source"`
	CgroupOwner   []uint32       `toml:"cgroup_owner"`
	Execs         []string       `toml:"execs"`
	ExecVerity    []string       `toml:"exec_verity"`
	AllowMissed   bool           `toml:"allow_missed"`
	Launch        map[string]any `toml:"launch"`
}

// readFormOne reads a policy of form 1. Keys that it didn't have are errors.
func readFormOne(text []byte) (*formOne, error) {
	p := &formOne{}
	meta, err := toml.Decode(string(text), p)
	if err != nil {
		return nil, err
	}
	if meta.IsDefined("cima_policy") {
		return nil, errors.New("it has cima_policy: only a policy of form 1, which has none, is converted")
	}
	for _, key := range slices.Concat(meta.Undecoded(), meta.Keys()) {
		// The reader takes case variants for the key itself.
		free := slices.Contains(key[:len(key)-1], "match") || slices.Contains(key[:len(key)-1], "launch") || slices.Contains(key[:len(key)-1], "events")
		if !free && (slices.ContainsFunc(meta.Undecoded(), func(k toml.Key) bool { return k.String() == key.String() }) || key[len(key)-1] != strings.ToLower(key[len(key)-1])) {
			return nil, fmt.Errorf("key %q must be one of form 1", key.String())
		}
		if list, ok := listAt(p, key.String()); ok && len(list) == 0 && meta.IsDefined(key...) {
			return nil, fmt.Errorf("%s must not be empty: it allowed nothing, so nothing was trusted", key)
		}
	}
	return p, nil
}

// listAt are the lists that have a default, or another meaning, where they are absent.
func listAt(p *formOne, key string) ([]string, bool) {
	of := map[string][]string{"tcb.statuses": p.TCB.Statuses, "agent.anchors": p.Agent.Anchors, "container.start": p.Container.Start,
		"container.source": p.Container.Source, "container.execs": p.Container.Execs, "container.exec_verity": p.Container.ExecVerity}
	if key == "container.cgroup_owner" {
		return make([]string, len(p.Container.CgroupOwner)), true
	}
	list, ok := of[key]
	return list, ok
}

package workload

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/policy"
	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/rpc"
)

const (
	// maxFile bounds a file, in bytes: policies have at most 1 MiB.
	maxFile = 1<<20 + 1

	// maxNames is how many names of alternatives one container has, the policy's first ones.
	maxNames = 64

	// maxToldOf is how many alternatives that nobody can meet are told of.
	maxToldOf = 16
)

// policies is a policy whose alternatives are selectors. Its files are read for each
// attestation, so that a changed one and a revocation count from the next; what was
// parsed is kept as long as they say the same.
type policies struct {
	paths []string // the policy's, and that of revocations where there is one
	log   hclog.Logger

	mu     sync.Mutex
	texts  [][]byte // nil: nothing was parsed yet
	parsed *policy.Policy
}

// current is the policy as its files have it now.
func (p *policies) current() (*policy.Policy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	texts := make([][]byte, len(p.paths))
	for i, path := range p.paths {
		var err error
		if texts[i], err = readFile(path); err != nil {
			return nil, err
		}
	}
	same := p.parsed != nil
	for i := range p.texts {
		same = same && bytes.Equal(texts[i], p.texts[i])
	}
	if same {
		return p.parsed, nil
	}
	parsed, err := parse(p.paths, texts)
	if err != nil {
		return nil, err
	}
	reasons, all := parsed.Unshown()
	if all {
		return nil, fmt.Errorf("%s: no [[container]] can be met by what cimad says of a process%s", p.paths[0], hint(reasons))
	}
	for _, why := range reasons[:min(len(reasons), maxToldOf)] {
		p.log.Warn("an alternative of the policy is nobody's selector", "policy", p.paths[0], "because", why)
	}
	p.texts, p.parsed = texts, parsed
	return parsed, nil
}

func hint(reasons []string) string {
	if len(reasons) == 0 {
		return ""
	}
	return ": " + strings.Join(reasons[:min(len(reasons), maxToldOf)], "; ")
}

func parse(paths []string, texts [][]byte) (*policy.Policy, error) {
	parsed, err := policy.Parse(paths[0], texts[0])
	for i := 1; i < len(paths) && err == nil; i++ {
		err = parsed.Revoke(paths[i], texts[i])
	}
	return parsed, err
}

func readFile(path string) ([]byte, error) {
	// Opening a FIFO waits for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s must be a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// names are the alternatives that a container meets, as selectors. Without a policy that
// can be read there are none, and so no entry that asks for one is met.
func (p *policies) names(who rpc.ProcessIdentity, at time.Time) (values []string) {
	if p == nil || who.Container == nil {
		return nil
	}
	now, err := p.current()
	if err != nil {
		p.log.Error("no container gets a selector of the policy", "error", err)
		return nil
	}
	c := who.Container
	shown := policy.Shown{
		Image: c.ImageDigest, Source: who.Source, Owner: c.Assurance.CgroupOwner,
		Gated: c.Assurance.Start == logs.StartGated, PIDFD: c.Assurance.PIDFD, Power: who.Power,
	}
	if c.LaunchDigest != nil {
		shown.Launch = hw.Digest(*c.LaunchDigest)
	}
	names := now.Alternatives(shown, at)
	for _, name := range names[:min(len(names), maxNames)] {
		values = append(values, "policy:"+name)
	}
	return values
}

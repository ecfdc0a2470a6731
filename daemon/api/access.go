package api

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/cima-project/cima/daemon/config"
	"github.com/cima-project/cima/daemon/containers"
	"github.com/cima-project/cima/daemon/launch"
	"github.com/cima-project/cima/rpc"
)

// access is the access that a method needs. Every caller may read about itself; a
// method that logs an event must be granted.
type access int

const (
	read   access = iota // of the caller's own: granted unless a rule denies it
	attest               // an event of the caller's own: denied unless a rule grants it
)

// allowed checks a call against the access rules. On the admin socket root may do
// for a container what the container itself may do.
func (a *API) allowed(ctx context.Context, s *subject, method string, needs access) error {
	rules := a.Config().Access
	granted := needs == read
	if len(rules) == 0 && granted {
		return nil
	}
	// Rules are about image and labels: while they are not known, no denial could
	// match.
	var f *containers.Facts
	if s.instance != nil && len(rules) > 0 {
		var err error
		if f, err = a.facts(ctx, s); err != nil {
			return err
		}
	}
	for _, r := range rules {
		if !slices.Contains(r.Allow, method) && !slices.Contains(r.Deny, method) {
			continue
		}
		if !matches(r, s, f) {
			continue
		}
		if slices.Contains(r.Deny, method) {
			return rpc.Denied("policy denies %s to this caller", method)
		}
		granted = granted || mayGrant(r, s)
	}
	if !granted {
		return rpc.Denied("%s isn't granted to this caller: an [[access]] rule in cimad.toml(5) grants it", method)
	}
	return nil
}

// matches reports whether an access rule is about a caller; f is nil for a host
// process.
func matches(r config.AccessRule, s *subject, f *containers.Facts) bool {
	if r.Unit != "" {
		if ok, _ := path.Match(r.Unit, s.unit); !ok || s.instance != nil || s.unit == "" {
			return false
		}
	}
	if r.Image == "" && r.Label == "" && r.Namespace == "" && r.Pod == "" {
		return true
	}
	if f == nil || !podMatches(r.Namespace, f.Pod.Namespace) || !podMatches(r.Pod, f.Pod.Name) {
		return false
	}
	if r.Image != "" && !imageMatches(r.Image, f.Image.Reference) {
		return false
	}
	name, value, _ := strings.Cut(r.Label, "=")
	return r.Label == "" || f.Labels[name] == launch.Text(value)
}

// mayGrant reports whether a rule that matches a caller can grant it something. What a user
// wrote of a container, its image's name and its labels, is the user's word: nobody gets a
// right by saying so of themselves.
func mayGrant(r config.AccessRule, s *subject) bool {
	return r.Image == "" && r.Label == "" || s.instance.Container.UID == 0
}

// podMatches matches a pod's name or namespace. A container of no pod has none, which only
// a rule without a pattern takes.
func podMatches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return pattern == "" || ok && err == nil && name != ""
}

// imageMatches matches a whole reference. A * matches slashes too, because
// repositories nest.
func imageMatches(pattern, reference string) bool {
	flat := strings.NewReplacer("/", "\x00")
	ok, err := path.Match(flat.Replace(pattern), flat.Replace(reference))
	return ok && err == nil && reference != ""
}

package launch

import (
	"regexp"
	"strings"
)

// hookStages are in the order in which the runtime runs them.
var hookStages = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// engineHook is docker's own hook, whose arguments have a pid and the container's id.
// Users of docker can't add hooks.
var engineHook = regexp.MustCompile(`^/proc/([0-9]+|self)/exe$`)

// isEngineHook reports whether a hook is exactly docker's own.
func isEngineHook(c *Spec, stage string, h specHook) bool {
	return (c.runtime == "docker" || c.runtime == "") && stage == "prestart" && engineHook.MatchString(string(h.Path)) &&
		len(h.Args) == 4 && h.Args[0] == "libnetwork-setkey" && h.Env == nil && h.Timeout == nil
}

func hooks(c *Spec, id string) []Hook {
	var out []Hook
	for _, stage := range hookStages {
		for _, h := range c.Hooks[stage] {
			if isEngineHook(c, stage, h) {
				continue
			}
			hook := Hook{Stage: stage, Path: h.Path, Timeout: h.Timeout}
			for _, a := range h.Args {
				hook.Arguments = append(hook.Arguments, withoutID(a, id))
			}
			for _, e := range h.Env {
				hook.Environment = append(hook.Environment, withoutID(e, id))
			}
			out = append(out, hook)
		}
	}
	return out
}

func withoutID(t Text, id string) Text {
	if !IsID(id) {
		return t
	}
	return Text(strings.NewReplacer(id, "{id}", id[:12], "{id}").Replace(string(t)))
}

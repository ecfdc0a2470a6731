package records

import (
	"context"
	"encoding/json"
	"maps"
	"path"

	"github.com/cima-project/cima/daemon/launch"
)

// Measure returns the record's launch with the digests of its entrypoint and hooks,
// and docker's labels where the rules name some (podman keeps labels in its database:
// name an annotation there). It reads files only, so that the gate may call it. The
// only error is that ctx ended.
//
// Of a user's record no file is read: the user could make one that hangs.
func (s *Store) Measure(ctx context.Context, r Record) (launch.Launch, error) {
	if r.UID != 0 || r.Err != nil {
		return r.Launch, nil
	}
	if rules := s.options.Rules; r.Runtime == "docker" && len(rules.Labels) > 0 {
		asked := *r.Launch.Asked
		asked.Labels = rules.Choose(s.dockerLabels(r))
		maps.Copy(asked.Labels, r.Launch.Asked.Labels)
		r.Launch.Asked = &asked
	}
	return measure(ctx, r, s.host())
}

// dockerLabels reads the labels in docker's own description of a container.
func (s *Store) dockerLabels(r Record) map[string]launch.Text {
	root := launch.StorageRoot(r.RootPath)
	if root == "" || !launch.IsID(r.ID) {
		return nil
	}
	raw, _, owner, err := s.trust.ReadFile(path.Join(root, "containers", r.ID, "config.v2.json"), launch.MaxConfig)
	if err != nil || owner != 0 {
		return nil
	}
	var c struct {
		Config struct{ Labels map[string]launch.Text }
	}
	if json.Unmarshal(raw, &c) != nil {
		return nil
	}
	return c.Config.Labels
}

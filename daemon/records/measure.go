package records

import (
	"context"
	"maps"

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
	if len(r.details.labels) > 0 {
		asked := *r.Launch.Asked
		asked.Labels = maps.Clone(r.details.labels)
		maps.Copy(asked.Labels, r.Launch.Asked.Labels)
		r.Launch.Asked = &asked
	}
	return measure(ctx, r, s.host(), s.options.Hashing)
}

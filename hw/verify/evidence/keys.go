package evidence

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/cima-project/cima/logs"
	"github.com/cima-project/cima/logs/canonical"
)

// Key is a key that a start event announces.
type Key struct {
	Position int
	Key      ed25519.PublicKey
}

// Keys are the keys of the start events in the prefix, event 0's first.
type Keys []Key

// Changed reports whether a start event announces another key than event 0.
func (keys Keys) Changed() bool {
	for _, k := range keys {
		if !bytes.Equal(k.Key, keys[0].Key) {
			return true
		}
	}
	return false
}

// Keys reads the keys of the start events in the prefix.
func (ev *Bundle) Keys() (keys Keys, err error) {
	if len(ev.Log) == 0 || ev.Log[0].Event == nil || ev.Log[0].Event.Operation != logs.OpStart {
		return nil, errors.New("event 0 is no start event: the log doesn't say who writes it")
	}
	for i, e := range ev.Prefix() {
		if e.Event == nil || e.Event.Operation != logs.OpStart {
			continue
		}
		var start logs.StartBody
		if err := canonical.Decode(e.Event.Body(), &start); err != nil {
			return nil, fmt.Errorf("start event %d: %w", i, err)
		}
		if start.AgentKey == nil {
			return nil, fmt.Errorf("start event %d: there must be an agent_key", i)
		}
		keys = append(keys, Key{i, ed25519.PublicKey(start.AgentKey)})
	}
	if len(keys) == 0 {
		return nil, errors.New("the claims were fixed before event 0: no agent had started")
	}
	return keys, nil
}

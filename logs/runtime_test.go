package logs

import (
	"encoding/json"
	"testing"
)

const someSalt = "AAECAwQFBgcICQoLDA0ODw=="

func mustEvent(t testing.TB, operation string) Event {
	t.Helper()
	c := Content{Measured: json.RawMessage(`{"` + operation + `":{"path":"/usr/bin/true","n":1}}`)}
	if !Public(operation) {
		c.Container, c.Salt = "4f5e", someSalt
	}
	if operation == OpExit {
		c.Measured = nil
	}
	e, err := NewEvent(operation, c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

package rpc

import (
	"encoding/json"
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestTEEUnavailableNamesErrno(t *testing.T) {
	err := TEEUnavailable(&os.PathError{Op: "write", Path: "/secret", Err: syscall.EBUSY}, "no quote: try again")
	wire, whole := WireError(err)
	if text, _ := json.Marshal(wire); !whole || string(text) != `{"code":-32004,"message":"no quote: try again","data":{"errno":"EBUSY"}}` {
		t.Errorf("got %s", text)
	}
	if !errors.Is(err, syscall.EBUSY) {
		t.Error("the cause is lost")
	}
}

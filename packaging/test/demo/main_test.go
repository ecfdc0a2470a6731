package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// On a machine that is too slow, the error names the timeout and not an
// interrupt.
func TestEnded(t *testing.T) {
	interrupted, stop := context.WithCancel(context.Background())
	stop()
	late, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	for _, test := range []struct {
		ctx  context.Context
		code int
		want string
	}{
		{interrupted, 130, "interrupted"},
		{late, 1, "not done after 4m0s; everything was removed: cause"},
		{context.Background(), 1, "cause"},
	} {
		if code, err := ended(test.ctx, errors.New("cause")); code != test.code || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%d, %v; want %d, %q", code, err, test.code, test.want)
		}
	}
}

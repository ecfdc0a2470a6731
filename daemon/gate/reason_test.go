package gate

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestPublicReason(t *testing.T) {
	own := errors.New("the container's own")
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("/secret: %w", ErrWritable), ErrWritable.Error()},
		{fmt.Errorf("/secret: %w", own), own.Error()},
		{fmt.Errorf("/secret: %w", context.DeadlineExceeded), ErrDeadline.Error()},
		{errors.New("/secret"), "it could not be measured"},
	} {
		if got := PublicReason(c.err, own); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

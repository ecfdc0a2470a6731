package gate

import (
	"context"
	"errors"
)

// PublicReason returns the text of err that everybody may read. It never holds a
// fact of a container, such as a path: it is the text of one of this package's
// errors, of one of the caller's own errors in known, or a general one.
func PublicReason(err error, known ...error) string {
	for _, reason := range []error{
		ErrDeadline, errBusy, ErrOverflow, ErrLetGo, ErrWritable, ErrTooLarge, ErrUnmarkable,
	} {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	for _, reason := range known {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrDeadline.Error()
	}
	return "it could not be measured"
}

package peer

import (
	"strings"
	"testing"
)

func TestNewErrors(t *testing.T) {
	for name, o := range map[string]Options{
		"no records given": {},
		"must be mounted":  {Records: declare(), cgroupRoot: "/none"},
		"open /none":       {Records: declare(), procRoot: "/none"},
		"the proc file system of its own pid namespace": {Records: declare(), procRoot: "/"},
	} {
		id, err := New(o)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, id, err)
		}
	}
}

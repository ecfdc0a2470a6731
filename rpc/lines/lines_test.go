package lines

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Lines come whole however they are cut, and what was read of one outlives an error.
func TestLinesInPieces(t *testing.T) {
	long := strings.Repeat("x", 3*FirstRead)
	text := "a\n\n" + long + "\nb"
	for name, in := range map[string]io.Reader{
		"at once": strings.NewReader(text), "by bytes": iotest.OneByteReader(strings.NewReader(text)),
		"interrupted": iotest.TimeoutReader(iotest.HalfReader(strings.NewReader(text))),
	} {
		r := Reader{In: in, Most: 4 * FirstRead, Cut: func([]byte) error { return nil }}
		for _, want := range []string{"a", "", long} {
			line, err := r.Next()
			if errors.Is(err, iotest.ErrTimeout) {
				line, err = r.Next()
			}
			if err != nil || string(line) != want {
				t.Errorf("%s: %d bytes, %v; want %d", name, len(line), err, len(want))
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: a line without an end: %v", name, err)
		}
	}
	r := Reader{In: strings.NewReader(long), Most: FirstRead, Cut: func([]byte) error { return nil }}
	if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "must have at most") {
		t.Errorf("a line that is too long: %v", err)
	}
}

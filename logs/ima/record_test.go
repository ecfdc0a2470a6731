package ima

import (
	"crypto"
	"io"
	"strings"
	"testing"
)

func TestBrokenBinaryRecords(t *testing.T) {
	good := everyTemplate()[0].binary(crypto.SHA384)
	huge := good[:4+48+4+6] + le(5<<20, 4) + strings.Repeat("\x00", 5<<20)
	r := NewReader(strings.NewReader(good + huge + good + good[:60]))
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); err != io.EOF || r.Skipped != 2 {
		t.Errorf("%v, %d skipped: %v", err, r.Skipped, r.LastSkip())
	}
	r = NewReader(strings.NewReader(good + strings.Repeat("\x00", 100) + good))
	r.Next()
	if _, err := r.Next(); err == nil || err == io.EOF {
		t.Errorf("a record without a name: %v", err)
	}
	if _, err := NewReader(strings.NewReader("\x0a\x00\x00\x00" + strings.Repeat("\xFF", 200))).Next(); err == nil || err == io.EOF {
		t.Errorf("no IMA log: %v", err)
	}
}

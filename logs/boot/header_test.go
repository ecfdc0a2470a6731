package boot

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cima-project/cima/logs/alg"
)

func TestBrokenHeaders(t *testing.T) {
	good := AppendHeader(nil)
	with := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+len(b):]...)
	}
	var algs []alg.ID
	var sizes []int
	for i := range alg.Max + 1 {
		algs, sizes = append(algs, alg.ID(0x700+i)), append(sizes, 4)
	}
	for want, raw := range map[string][]byte{
		"too few for a spec-id header":             good[:31],
		"the log is tables/data/CCEL":              append([]byte("CCEL"), good...),
		"must be the spec-id header, EV_NO_ACTION": with(4, 4),
		"spec-id header announces":                 with(28, 0xFF, 0xFF, 0xFF, 0xFF),
		"not a crypto-agile log":                   with(32, 'X'),
		"lists 200 algorithms in 5 bytes":          with(56, 200),
		"lists 17 algorithms in 72 bytes":          logOf(algs, sizes),
		"of vendor info":                           with(64, 9),
		"gives sha384 20 bytes":                    logOf([]alg.ID{alg.SHA384}, []int{20}, digest(alg.SHA384, 48, 1)),
		"lists algorithm 0x0777 twice":             logOf([]alg.ID{0x777, 0x777}, []int{4, 8}),
	} {
		if _, err := Parse(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := Parse(logOf(algs[1:], sizes[1:])); err != nil {
		t.Errorf("%d algorithms: %v", alg.Max, err)
	}
	if log, err := Parse(good); err != nil || log.Len() != 0 {
		t.Errorf("a header alone: %v", err)
	}
}

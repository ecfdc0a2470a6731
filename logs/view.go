package logs

import (
	"fmt"
	"io"
	"iter"
	"strings"
)

// ViewEvent is an event of the boot in the view that containers get
// (GetCCEventLog, as in CIMA 0.5). It is as unverified as the log it is from.
type ViewEvent struct {
	IMR      int    // 0–2 = RTMR0–2, 3 = RTMR3 in logs that go on behind the boot
	Type     uint32 // of the boot log; EvIMAMeasurement for IMA entries
	TypeName string
	Alg      AlgID  // of Digest
	Digest   []byte // what extended the register
	Event    []byte // data of a boot event, fields of an IMA entry as text

	Template string // IMA entries: the template's name
}

// UnverifiedView are the boot log's events of RTMR0–3, in order; MRTD's (MR 0)
// have no place in it. Digests are the log's memory.
func (l *BootLog) UnverifiedView() iter.Seq[ViewEvent] {
	return func(yield func(ViewEvent) bool) {
		for _, e := range l.UnverifiedEvents() {
			if e.MR < 1 || e.MR > 4 {
				continue
			}
			v := ViewEvent{IMR: int(e.MR - 1), Type: e.Type, TypeName: EventTypeName(e.Type), Event: e.Data}
			for alg, digest := range e.Digests() {
				if v.Digest == nil || alg == AlgSHA384 {
					v.Alg, v.Digest = alg, digest
				}
			}
			if !yield(v) {
				return
			}
		}
	}
}

// ReadUnverifiedView gives up to count of the log's entries that extended
// RTMR2, from the start-th on (from 0), for kernels where IMA does so.
func (r *IMAReader) ReadUnverifiedView(start, count int) ([]ViewEvent, error) {
	var view []ViewEvent
	rtmr2 := NewRTMR2([48]byte{})
	for len(view) < count {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("IMA log: %w", err)
		}
		if !rtmr2.covers(e.PCR) {
			continue
		}
		if start > 0 {
			start--
			continue
		}
		view = append(view, e.view())
	}
	return view, nil
}

func (e *IMAEntry) view() ViewEvent {
	var text []string
	for _, f := range e.Fields() {
		text = append(text, f.Text)
	}
	digest := append([]byte(nil), e.TemplateHash()...)
	if e.Violation {
		for i := range digest {
			digest[i] = 0xFF
		}
	}
	return ViewEvent{
		IMR: 2, Type: EvIMAMeasurement, TypeName: EventTypeName(EvIMAMeasurement),
		Alg: e.Alg, Digest: digest, Event: []byte(strings.Join(text, " ")), Template: e.Template(),
	}
}

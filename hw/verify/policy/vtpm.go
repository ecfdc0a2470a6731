package policy

import (
	"fmt"
	"slices"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/codes"
	"github.com/cima-project/cima/hw/verify/paravisor"
	"github.com/cima-project/cima/hw/verify/tables"
)

// vtpm is [vtpm.NAME]: the paravisor that has the TPM, and the PCRs after the boot.
type vtpm struct {
	name string
	validity
	codes.Wish
	values paravisor.Rules
	gaps   []string
}

func readVTPM(t *tables.Table, name string) *vtpm {
	v := &vtpm{name: name, validity: readValidity(t), Wish: codes.Read(t)}
	open := false
	if v.values, open = paravisor.Read(t); open {
		v.gaps = append(v.gaps, codes.PCRsVary)
	}
	v.gaps = append(append(v.gaps, readRoot(t, readLine(t))...), readHostInput(t)...)
	t.Done()
	return v
}

// judgeVTPM holds paravisor and PCRs against those of a [[boot]].
func (j *bootJudge) judgeVTPM(b *bootRule) (known *Boot, differ []difference) {
	of := j.now.MRTD
	if j.now.Measurement != nil {
		of = *j.now.Measurement
	}
	name, differ := nearest(b.vtpm, func(name string) (differ []difference) {
		v := j.p.vtpms[name]
		j.work.Add(v.values.Size())
		for _, d := range v.values.Differs(of, j.now.PCRs, j.now.LogPCR) {
			differ = append(differ, said(d))
		}
		for i, rtmr := range append(j.now.RTMR[:], j.now.RTMR3) {
			if rtmr != (hw.Digest{}) { // the paravisor measured what MRTD doesn't cover
				differ = append(differ, said(fmt.Sprintf("RTMR%d is %s, want zero", i, rtmr)))
			}
		}
		if out := v.out(j.at); out != "" {
			differ = append(differ, said("vtpm "+name+" "+out))
		}
		return differ
	})
	if out := b.out(j.at); len(differ) == 0 && out != "" {
		differ = []difference{said(fmt.Sprintf("boot %q %s", b.name, out))}
	}
	if len(differ) > 0 {
		return nil, differ
	}
	v := j.p.vtpms[name]
	known = &Boot{Name: b.name, VTPM: name, Gaps: slices.Clone(v.gaps), wishes: codes.Wishes{b.Wish, v.Wish}}
	if j.now.InPCR && !v.values.HoldLog(j.now.LogPCR) {
		known.Gaps = append(known.Gaps, codes.LogPCR)
	}
	return known, nil
}

package firstseen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/snp"
)

// guests writes what is unusual of SNP guests, the lowest TCB that was seen, and what was
// launched.
func (w *writer) guests() {
	values, keys := make(map[string][]string), []string(nil)
	least := make(map[snp.Line]snp.TCB)
	var measurements []string
	for _, s := range w.seen {
		names, of := guest.Unusual(s.SNP.Report)
		for _, name := range names {
			values[name] = unique(append(values[name], of[name]...))
		}
		keys = unique(append(keys, names...))
		measurements = unique(append(measurements, hw.Digest(s.SNP.Measurement).String()))
		low, known := least[s.Line]
		for _, tcb := range []snp.TCB{s.SNP.ReportedTCB, s.SNP.CurrentTCB, s.SNP.CommittedTCB, s.SNP.LaunchTCB} {
			for i := range tcb {
				if !known || tcb[i] < low[i] {
					low[i] = tcb[i]
				}
			}
			known = true
		}
		least[s.Line] = low
	}
	w.table("[snp]", "What is unusual of the guest. id_keys say who signed the launch, if anybody did.")
	for _, key := range keys {
		w.asSeen(key, values[key])
	}
	if slices.Contains(values["allow"], "debug") {
		w.note("the guest is under debug, and hides nothing from its host: never in production")
	}
	for _, line := range snp.Lines() {
		if _, seen := least[line]; !seen {
			continue
		}
		var parts []string
		for _, p := range line.Parts() {
			parts = append(parts, fmt.Sprintf("%s = %d", p.Name, p.Of(least[line])))
		}
		fmt.Fprintf(&w.b, "min_tcb.%s = { %s }  # as first seen\n", strings.ToLower(string(line)), strings.Join(parts, ", "))
	}
	w.table("[measured.first-seen-1]", "What was launched. \"firmware\": nothing more is measured; where kernel, initrd and",
		"command line are (by kernel hashes, or in an IGVM file), write \"system\", with root and host_input.")
	w.asSeen("measurement", measurements)
	w.value("covers", "firmware")
	w.table("[[boot]]", "Everything else rests on it.")
	w.value("name", "as first seen")
	w.value("measured", []string{"first-seen-1"})
}

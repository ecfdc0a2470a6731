package firstseen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/hw/verify/cmdline"
	"github.com/cima-project/cima/hw/verify/guest"
	"github.com/cima-project/cima/hw/verify/paravisor"
	"github.com/cima-project/cima/hw/verify/snp"
)

// guests writes what is unusual of SNP guests, the lowest TCB that was seen, and what was
// launched.
func (w *writer) guests() {
	values, keys := make(map[string][]string), []string(nil)
	least := make(map[snp.Line]snp.TCB)
	for _, s := range w.seen {
		names, of := guest.Unusual(s.SNP.Report)
		for _, name := range names {
			values[name] = unique(append(values[name], of[name]...))
		}
		keys = unique(append(keys, names...))
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
}

// measured writes what was launched as SNP guests.
func (w *writer) measured() {
	var measurements []string
	for _, s := range w.seen {
		measurements = unique(append(measurements, hw.Digest(s.SNP.Measurement).String()))
	}
	w.table("[measured.first-seen-1]", "What was launched. \"firmware\": nothing more is measured; where kernel, initrd and",
		"command line are (by kernel hashes, or in an IGVM file), write \"system\", with root and host_input.")
	w.asSeen("measurement", measurements)
	w.value("covers", "firmware")
	w.table("[[boot]]", "Everything else rests on it.")
	w.value("name", "as first seen")
	w.value("measured", []string{"first-seen-1"})
}

// vtpms writes paravisors, and what the PCRs of their TPMs held.
func (w *writer) vtpms() {
	var paravisors []string
	pcrs := make(map[int][]string)
	for _, s := range w.seen {
		of := s.Booted.MRTD
		if s.Booted.Measurement != nil {
			of = *s.Booted.Measurement
		}
		paravisors = unique(append(paravisors, of.String()))
		for i := range 16 {
			value := paravisor.Word(s.Booted.PCRs[i])
			switch {
			case i == s.Booted.LogPCR:
				value = "log"
			case value == "zero" && i < 8: // whatever was booted can extend it to any value
				value = "any"
			}
			pcrs[i] = unique(append(pcrs[i], value))
		}
	}
	w.table("[vtpm.first-seen-1]", "The paravisor, by MRTD or MEASUREMENT, and the PCRs of its TPM: who has the one signs any of the other.",
		"\"log\" is the PCR of the runtime log. Those that change with each boot can be \"any\".")
	w.asSeen("paravisor", paravisors)
	for i := range 16 {
		w.asSeen(fmt.Sprint("pcr", i), pcrs[i])
	}
	w.comment("How the root file system is covered, with the command line that does it, and what the",
		"system reads of its host that no PCR covers. Look at its image.")
	w.value("root", cmdline.NotCovered)
	w.value("host_input", "unknown")
	w.table("[[boot]]", "Everything else rests on it.")
	w.value("name", "as first seen")
	w.value("vtpm", []string{"first-seen-1"})
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// known says how many events of RTMR0 of a real TD's log are computed from public files at
// least: as many as were when this was written.
var known = []struct {
	log   string
	least int
}{
	{"real/ccel/CCEL_unpadded.data.bin", 10}, {"evidence-api/ccel.bin", 12}, {"gdc/ccel.bin", 9},
	{"gcp-cos113/ccel.bin", 6}, {"ubuntu-2404/ccel.bin", 4}, {"alibaba-aael/ccel.bin", 7},
}

// realLogs prints which events of real TDs' logs are computed from Debian's firmware: their
// own firmware, kernels and images are not public, or were not at hand.
func realLogs() (failed int, err error) {
	if _, err := os.Stat(*shared); err != nil {
		fmt.Println("left out: real logs:", err)
		return 0, nil
	}
	for _, one := range known {
		best, text := -1, ""
		for _, name := range []string{"bookworm", "trixie", "sid"} {
			for _, separator := range []string{"0", "1"} {
				image := suite{name, filepath.Join(*dir, "files-"+name)}.glob("usr/share/ovmf/OVMF.fd")
				r, _, err := cimactlJSON("--firmware", image, "--separator", separator, "--check", filepath.Join(*shared, one.log))
				if err != nil {
					return failed, err
				}
				if n := r.Counts["predicted"] + r.Counts["known"]; n > best {
					best = n
					text = fmt.Sprintf("%d of %d events of RTMR0, by OVMF of %s, separator in RTMR%s; not computed:", n, len(r.Events), name, separator)
					for _, e := range r.Events {
						if e.Verdict != "predicted" && e.Verdict != "known" {
							text += " " + e.Kind
						}
					}
				}
			}
		}
		if best < one.least {
			failed++
			text = "FAILS: " + text
		}
		fmt.Printf("%-34s %s\n", one.log, text)
	}
	return failed, nil
}

//go:build linux

package hw

// Detect is the platform of this machine, by the devices that its kernel has: a TD's, or
// else that of an SNP guest which may ask the firmware itself. Without either it is a TD,
// whose calls then say what is missing.
func Detect(options TDXOptions) TEE {
	t := NewTDX(options)
	if !t.exists(t.device()) && t.exists(t.dev("sev-guest")) {
		return newSNP(options)
	}
	return t
}

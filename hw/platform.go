package hw

// A platform has three parts that vary apart: who signs, where runtime events are
// anchored, and what logged the boot. Each has a closed vocabulary, in which evidence
// names it (cima-platforms(7)).

// Parts names a platform's three parts.
type Parts struct {
	TEE     string // who signs: TEETDX and the like
	Anchor  string // the best that the platform has: logs.AnchorRTMR3 and the like
	BootLog string // the form of what logged the boot: BootLogCCEL and the like
}

// Values of evidence.tee.
const (
	TEETDX      = "tdx"       // a TDX quote over the claims
	TEESNP      = "snp"       // an SNP report over the claims
	TEEAzureTDX = "azure-tdx" // a vTPM's quote over the claims; its key by a TDX quote
	TEEAzureSNP = "azure-snp" // a vTPM's quote over the claims; its key by an SNP report
)

// Values of claims.boot_log_format. Claims leave out BootLogCCEL.
const (
	BootLogCCEL = "ccel" // explains RTMR0–2
	BootLogTPM  = "tpm"  // explains a TPM's PCRs
	BootLogNone = "none" // nothing in the TEE logged the boot: the log is empty
)

// Signed is what a platform signed over report data, apart.
type Signed struct {
	Quote     []byte    // TDX quote or SNP report
	Registers Registers // as signed

	Certificates [][]byte // of an SNP report, DER, as the host gave them: leaf, intermediate, root
	RuntimeData  []byte   // what Quote is over, where it is over a TPM's key: the paravisor's JSON
	TPMQuote     []byte   // TPMS_ATTEST over the report data and the PCRs
	TPMSignature []byte   // TPMT_SIGNATURE
	PCRs         []byte   // the values of PCRs 0–23 in the bank that TPMQuote names
}

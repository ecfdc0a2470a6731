// Package rpc answers: how does one ask the daemon?
//
// It holds the methods, their parameters and results, and the Go client. The wire is
// JSON-RPC 2.0, one object per line, over a Unix stream socket; cima-api(7) specifies
// it. The other end of the socket is package rpc/server.
package rpc

import (
	"encoding/hex"
	"encoding/json/jsontext"
	"strconv"
	"strings"
)

// Where the daemon listens (cima-api(7), FILES).
const (
	DefaultSocket       = "/run/cima/cima.sock"
	DefaultAdminSocket  = "/run/cima-admin/admin.sock"
	DefaultLookupSocket = "/run/cima-lookup/lookup.sock"

	// SocketEnv is the environment variable from which a client takes the path
	// of the socket.
	SocketEnv = "CIMA_SOCKET"
)

// Methods of both sockets. On the admin socket they take container_id, because the
// caller there is not the container.
const (
	MethodGetDefaultAlgorithm = "GetDefaultAlgorithm" // NoParams, DefaultAlgorithm
	MethodGetMeasurementCount = "GetMeasurementCount" // NoParams, MeasurementCount
	MethodGetCCMeasurement    = "GetCCMeasurement"    // CCMeasurementParams, CCMeasurement
	MethodGetCCEventLog       = "GetCCEventLog"       // CCEventLogParams, CCEventLog
	MethodGetCCReport         = "GetCCReport"         // CCReportParams, CCReport
	MethodGetEvidence         = "GetEvidence"         // EvidenceParams, Evidence
	MethodGetMeasurements     = "GetMeasurements"     // NoParams, Measurements
	MethodExtendMeasurement   = "ExtendMeasurement"   // ExtendParams, Extended
	MethodWhoAmI              = "WhoAmI"              // NoParams, Identity
	MethodDiscover            = "rpc.discover"        // NoParams, an OpenRPC document
)

// CallerMethods are the methods about a caller's own measurements and evidence,
// in the order of cima-api(7). Access rules name them.
func CallerMethods() []string {
	return []string{
		MethodGetDefaultAlgorithm, MethodGetMeasurementCount, MethodGetCCMeasurement, MethodGetCCEventLog,
		MethodGetCCReport, MethodGetEvidence, MethodGetMeasurements, MethodExtendMeasurement, MethodWhoAmI,
	}
}

// Methods of the admin socket alone.
const (
	MethodListContainers = "ListContainers" // NoParams, ContainerList
	MethodGetStatus      = "GetStatus"      // StatusParams, Status
)

// MethodLookUpProcess is of the look-up socket, which has WhoAmI too, and of the admin
// socket.
const MethodLookUpProcess = "LookUpProcess" // ProcessParams, ProcessIdentity

// FoldMethod makes one text of the ways in which people and CIMA 0.5's clients spell a
// method's name: GetCcReport and get_cc_report are GetCCReport. The daemon takes the exact
// name alone; this is for proposals.
func FoldMethod(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

// Limits of parameters, and values that they may have.
const (
	AlgoSHA384      = 12 // TPM_ALG_SHA384 (TCG Algorithm Registry), the only algo_id
	AlgorithmSHA384 = "sha384"
	CCTypeTDX       = 1 // cc_type of CIMA 0.5
	CCTypeSEV       = 2

	MinNonce      = 8 // bytes
	MaxNonce      = 64
	MaxUserData   = 4 << 10
	MaxIndex      = 3
	MaxEventCount = 1024 // records per page of GetCCEventLog

	MaxExtendWord    = 128     // bytes of domain, of operation
	MaxExtendContent = 4 << 10 // bytes
	MaxContainerID   = 256     // bytes of container_id

	FormatCIMA = "cima" // GetEvidence's default; package rpc/form has the others
)

// NoParams are the parameters of a method that has none: absent, or {}.
type NoParams struct{}

// CCMeasurementParams asks for one register.
type CCMeasurementParams struct {
	Index  int `json:"index" within:"0..3"`              // 0–2: RTMR0–2, 3: the caller's container register
	AlgoID int `json:"algo_id,omitzero" within:"12..12"` // AlgoSHA384, also if it is absent
}

// CCEventLogParams asks for a page of the event log.
type CCEventLogParams struct {
	Start int `json:"start,omitzero" within:"0..2147483647"` // rec_num of the first record wanted
	Count int `json:"count,omitzero" within:"1..1024"`       // at most MaxEventCount; 0 (absent): as many as a reply holds
}

// CCReportParams asks for a quote with the claims it is bound to.
type CCReportParams struct {
	Nonce    []byte `json:"nonce" within:"8..64"`                 // MinNonce to MaxNonce bytes
	UserData []byte `json:"user_data,omitempty" within:"0..4096"` // up to MaxUserData bytes
	Shared   bool   `json:"shared,omitzero"`                      // share one quote with other callers that wait
}

// EvidenceParams asks for evidence.
type EvidenceParams struct {
	Nonce    []byte `json:"nonce" within:"8..64"`                                                           // MinNonce to MaxNonce bytes
	UserData []byte `json:"user_data,omitempty" within:"0..4096"`                                           // up to MaxUserData bytes
	Format   string `json:"format,omitempty" oneof:"cima trustee trustee-request cmw cmw-cbor cel cel-tlv"` // one of rpc/form.Names; FormatCIMA if it is absent
	Shared   bool   `json:"shared,omitzero" about:"not with the formats trustee and trustee-request"`       // share one quote with other callers that wait
}

// StatusParams asks for the state of the daemon.
type StatusParams struct {
	Metrics bool `json:"metrics,omitzero"` // with its counters, in the text format of Prometheus
}

// ProcessParams name a process by its number in the daemon's pid namespace.
type ProcessParams struct {
	PID     int    `json:"pid" within:"1..4194304"`
	Started uint64 `json:"started,omitzero" within:"1..9007199254740991"` // start time, field 22 of proc_pid_stat(5); absent: whoever has the number now
}

// FormedEvidence is evidence in another form than FormatCIMA.
type FormedEvidence struct {
	Format  string `json:"format"`
	Content []byte `json:"content"` // the evidence in that form: text or binary
}

// ExtendParams is an event of the container's own. Domain and operation are
// words of AAEL: 1 to MaxExtendWord bytes without white space.
type ExtendParams struct {
	Domain    string `json:"domain" within:"1..128" spelled:"word"`
	Operation string `json:"operation" within:"1..128" spelled:"word"`
	Content   string `json:"content" within:"0..16384" spelled:"line"` // up to MaxExtendContent bytes of UTF-8 on one line; more are CodeTooLarge
}

// DefaultAlgorithm is the algorithm of every digest here.
type DefaultAlgorithm struct {
	AlgoID    int    `json:"algo_id"`   // AlgoSHA384
	Algorithm string `json:"algorithm"` // AlgorithmSHA384
}

// MeasurementCount is how many registers GetCCMeasurement knows, from index 0.
type MeasurementCount struct {
	Count int `json:"count"` // 4; 3 for a caller in no container
}

// CCMeasurement is the value of one register.
type CCMeasurement struct {
	Index  int    `json:"index"`
	AlgoID int    `json:"algo_id"`
	Hash   Digest `json:"hash"`
}

// AppendJSON writes what encoding/json would, in a fifth of the time: callers poll
// this.
func (m CCMeasurement) AppendJSON(b []byte) ([]byte, error) {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(m.Index), 10)
	b = strconv.AppendInt(append(b, `,"algo_id":`...), int64(m.AlgoID), 10)
	b = hex.AppendEncode(append(b, `,"hash":"`...), m.Hash[:])
	return append(b, `"}`...), nil
}

// CCReport is a quote and the claims that it is bound to: REPORTDATA is SHA-512 over
// the RFC 8785 form of the claims, or is computed from that and Shared.
type CCReport struct {
	CCType         int            `json:"cc_type"`   // CCTypeTDX
	CCReport       []byte         `json:"cc_report"` // the quote
	Claims         jsontext.Value `json:"claims"`
	Shared         *Shared        `json:"shared,omitzero"` // as in Evidence
	AgentSignature []byte         `json:"agent_signature"` // as in Evidence
}

// Measurements are all registers by name. A caller in no container has
// neither container register nor launch digest.
type Measurements struct {
	MRTD         Digest  `json:"mrtd"`
	RTMR0        Digest  `json:"rtmr0"`
	RTMR1        Digest  `json:"rtmr1"`
	RTMR2        Digest  `json:"rtmr2"`
	RTMR3        Digest  `json:"rtmr3"`
	Container    *Digest `json:"container,omitzero"`
	Public       Digest  `json:"public"`
	LaunchDigest *Digest `json:"launch_digest,omitzero"`
}

// Extended is the result of ExtendMeasurement.
type Extended struct {
	Index  int    `json:"index"`  // 3, the container register
	Digest Digest `json:"digest"` // SHA-384(JCS(measured)), which extended the register
}

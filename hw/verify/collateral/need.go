package collateral

import (
	"strings"

	"github.com/cima-project/cima/hw/verify/dcap"
	"github.com/cima-project/cima/hw/verify/snp"
)

// Kind is one of the documents that a verifier keeps. The first four are Intel's, and are numbered
// as in dcap.
type Kind int

// All kinds.
const (
	tcbInfo    = Kind(dcap.TCBInfo)
	qeIdentity = Kind(dcap.QEIdentity)
	pckCRL     = Kind(dcap.PCKCRL)
	rootCRL    = Kind(dcap.RootCRL)
	vcekList   = rootCRL + 1 // AMD's list of revoked certificates above VCEKs, of one line
	vlekList   = rootCRL + 2 // the same above VLEKs
)

// String is a document's name for readers.
func (k Kind) String() string {
	switch k {
	case vcekList:
		return "VCEK list"
	case vlekList:
		return "VLEK list"
	}
	return dcap.Document(k).String()
}

func (k Kind) ofAMD() bool { return k == vcekList || k == vlekList }

// alone reports whether a document has no chain: a root signed it.
func (k Kind) alone() bool { return k == rootCRL || k.ofAMD() }

// of reports whether there can be a document of this kind on that: of some there is one alone.
func (k Kind) of(what string) bool {
	if k.ofAMD() {
		return Need{k, what}.line() != ""
	}
	return (what != "") == (k == tcbInfo || k == pckCRL)
}

// Need is a document that an appraisal takes.
type Need struct {
	Kind Kind
	Of   string // the FMSPC; "platform" or "processor"; AMD's line in lower case; else ""
}

// Needs are the documents on one kind of Intel's platforms, in the order in which they are shown.
func Needs(fmspc, ca string) []Need {
	return []Need{{tcbInfo, fmspc}, {qeIdentity, ""}, {pckCRL, ca}, {rootCRL, ""}}
}

// ListNeed is the list of AMD's on what stands above the keys of a line.
func ListNeed(line snp.Line, vlek bool) Need {
	kind := vcekList
	if vlek {
		kind = vlekList
	}
	return Need{kind, strings.ToLower(string(line))}
}

// line is that of a list; "" where it is none.
func (n Need) line() snp.Line {
	for _, l := range snp.Lines() {
		if strings.ToLower(string(l)) == n.Of {
			return l
		}
	}
	return ""
}

// name is a document's name in the cache. What it is of is hex digits, or a word: it comes
// from a certificate and is checked by safe.
func (n Need) name() string {
	switch n.Kind {
	case tcbInfo:
		return "tcb-" + safe(n.Of)
	case qeIdentity:
		return "qe-identity"
	case pckCRL:
		return "pck-crl-" + safe(n.Of)
	case vcekList:
		return "amd-vcek-" + safe(n.Of)
	case vlekList:
		return "amd-vlek-" + safe(n.Of)
	}
	return "root-crl"
}

// file is its name in a folder.
func (n Need) file() string {
	if n.Kind.ofAMD() {
		return n.name() + ".crl"
	}
	return dcap.FileName(dcap.Document(n.Kind), safe(n.Of))
}

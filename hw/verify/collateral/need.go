package collateral

import (
	"strings"
	"time"

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
	vcek       = rootCRL + 3 // AMD's certificate of a chip's key
)

// String is a document's name for readers.
func (k Kind) String() string {
	switch k {
	case vcekList:
		return "VCEK list"
	case vlekList:
		return "VLEK list"
	case vcek:
		return "VCEK"
	}
	return dcap.Document(k).String()
}

func (k Kind) ofAMD() bool { return k == vcekList || k == vlekList || k == vcek }

// alone reports whether a document has no chain: a root signed it.
func (k Kind) alone() bool { return k == rootCRL || k == vcekList || k == vlekList }

// askAfter is the age of a document at which the service is asked for a newer one. AMD signs a
// key's certificate anew only when what stands above it has changed.
func (k Kind) askAfter() time.Duration {
	if k == vcek {
		return 30 * askAfter
	}
	return askAfter
}

// of reports whether there can be a document of this kind on that: of some there is one alone.
func (k Kind) of(what string) bool {
	if k == vcek {
		_, ok := snp.ParseKey(what)
		return ok
	}
	if k.ofAMD() {
		return Need{Kind: k, Of: what}.line() != ""
	}
	return (what != "") == (k == tcbInfo || k == pckCRL)
}

// Need is a document that an appraisal takes.
type Need struct {
	Kind Kind
	Of   string // the FMSPC; "platform" or "processor"; AMD's line in lower case; a Key's String; else ""

	report *snp.Report // that a key should have signed; nil where nobody says
}

// Needs are the documents on one kind of Intel's platforms, in the order in which they are shown.
func Needs(fmspc, ca string) []Need {
	return []Need{{Kind: tcbInfo, Of: fmspc}, {Kind: qeIdentity}, {Kind: pckCRL, Of: ca}, {Kind: rootCRL}}
}

// ListNeed is the list of AMD's on what stands above the keys of a line.
func ListNeed(line snp.Line, vlek bool) Need {
	kind := vcekList
	if vlek {
		kind = vlekList
	}
	return Need{Kind: kind, Of: strings.ToLower(string(line))}
}

// KeyNeed is the certificate of a key of AMD's. If it did not sign the report, no cache keeps it.
func KeyNeed(report *snp.Report, key snp.Key) Need {
	return Need{Kind: vcek, Of: key.String(), report: report}
}

// unsigned reports whether the certificate is of a key that did not sign the report.
func (n Need) unsigned(der []byte) bool { return n.report != nil && !n.report.SignedBy(der) }

// key is that of a certificate.
func (n Need) key() snp.Key {
	k, _ := snp.ParseKey(n.Of)
	return k
}

// turn is the name of what is asked for by one process at a time, and left alone after a failure. AMD
// limits how often certificates are asked for, whichever they are; and their names come from reports that
// nobody has judged yet, so that no file is kept of each that was asked for.
func (n Need) turn() string {
	if n.Kind == vcek {
		return "vcek-" + strings.ToLower(string(n.key().Line))
	}
	return n.name()
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
	case vcek:
		if !n.Kind.of(n.Of) {
			return "vcek-"
		}
		return "vcek-" + n.Of
	}
	return "root-crl"
}

// file is its name in a folder.
func (n Need) file() string {
	if n.Kind == vcek {
		return n.key().FileName()
	}
	if n.Kind.ofAMD() {
		return n.name() + ".crl"
	}
	return dcap.FileName(dcap.Document(n.Kind), safe(n.Of))
}

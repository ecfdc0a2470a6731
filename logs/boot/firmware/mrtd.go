package firmware

import (
	"crypto/sha512"
	"encoding/binary"
)

// Order is how a hypervisor adds and extends a section's pages.
type Order int

const (
	ByPage    Order = iota // each page is added and extended: KVM_TDX_INIT_MEM_REGION
	BySection              // all pages of a section are added, then extended: older QEMU
)

// MRTD is what the TDX module computes of the image: SHA-384 over a record of 128 bytes for
// each page that is added, and for each 256 bytes that are extended, with these bytes
// (Intel TDX Module Base Architecture, section 12.2.1).
func (m *Image) MRTD(order Order) [48]byte {
	h := sha512.New384()
	record := func(name string, address uint64) {
		var b [128]byte
		copy(b[:], name)
		binary.LittleEndian.PutUint64(b[16:], address)
		h.Write(b[:])
	}
	for _, s := range m.sections {
		extend := func(at uint64) {
			if s.attr&attrExtend == 0 {
				return
			}
			for chunk := at; chunk < at+page; chunk += 256 {
				record("MR.EXTEND", s.addr+chunk)
				from := uint64(s.off) + chunk
				h.Write(m.file[from : from+256])
			}
		}
		for at := uint64(0); at < s.size; at += page {
			if s.attr&attrAugment == 0 {
				record("MEM.PAGE.ADD", s.addr+at)
			}
			if order == ByPage {
				extend(at)
			}
		}
		for at := uint64(0); order == BySection && at < s.size; at += page {
			extend(at)
		}
	}
	return [48]byte(h.Sum(nil))
}

package vtpm

import (
	"context"
	"encoding/binary"
	"fmt"
)

// owner is TPM_RH_OWNER: the hierarchy whose password, empty on a cloud's guests, reads the
// indices that firmware defined for the guest.
const owner = 0x40000001

// chunk is how many bytes of an NV index are read at a time: each TPM gives 512.
const chunk = 512

// NV reads a whole NV index by the owner's empty password: at most limit bytes.
func (t *TPM) NV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	size, err := t.nvSize(ctx, index)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("NV index %#x has %d bytes, must be at most %d", index, size, limit)
	}
	whole := make([]byte, 0, size)
	for len(whole) < size {
		n := min(chunk, size-len(whole))
		parameters := binary.BigEndian.AppendUint16(nil, uint16(n))
		parameters = binary.BigEndian.AppendUint16(parameters, uint16(len(whole)))
		r, err := t.do(ctx, &command{name: "NV_Read", code: 0x14e, handles: []uint32{owner, index}, authorized: true, parameters: parameters})
		if err != nil {
			return nil, err
		}
		part := r.sized()
		r.must(len(part) == n, "%d bytes, asked for %d", len(part), n)
		if err := r.done(); err != nil {
			return nil, err
		}
		whole = append(whole, part...)
	}
	return whole, nil
}

func (t *TPM) nvSize(ctx context.Context, index uint32) (int, error) {
	r, err := t.do(ctx, &command{name: "NV_ReadPublic", code: 0x169, handles: []uint32{index}})
	if err != nil {
		return 0, err
	}
	public := &reader{command: r.command, b: r.sized(), err: r.err}
	named := public.u32()
	public.must(named == index, "it is of index %#x", named)
	public.u16()   // nameAlg
	public.u32()   // attributes
	public.sized() // authPolicy
	size := public.u16()
	if err := public.done(); err != nil {
		return 0, err
	}
	r.sized() // the index's name
	return int(size), r.done()
}

// RSA reads the modulus of the RSA key at this handle. The key must be one that signs only
// what the TPM made (restricted), with RSASSA and SHA-256, and exponent 65537.
func (t *TPM) RSA(ctx context.Context, key uint32) (modulus []byte, err error) {
	r, err := t.do(ctx, &command{name: "ReadPublic", code: 0x173, handles: []uint32{key}})
	if err != nil {
		return nil, err
	}
	const (
		algRSA, algRSASSA, algNull = 0x0001, 0x0014, 0x0010
		restricted, sign           = 1 << 16, 1 << 18
	)
	p := &reader{command: r.command, b: r.sized(), err: r.err}
	kind := p.u16()
	p.u16() // nameAlg
	attributes := p.u32()
	p.sized() // authPolicy
	p.must(kind == algRSA && attributes&restricted != 0 && attributes&sign != 0, "a key of type %#x with attributes %#x, must be a restricted signing key of RSA", kind, attributes)
	symmetric, scheme, hash := p.u16(), p.u16(), p.u16()
	p.must(symmetric == algNull && scheme == algRSASSA && hash == algSHA256, "a key of scheme %#x with hash %#x, must be RSASSA with SHA-256", scheme, hash)
	p.u16() // bits
	exponent := p.u32()
	p.must(exponent == 0 || exponent == 65537, "exponent %d", exponent) // 0 is the default
	modulus = p.sized()
	if err := p.done(); err != nil {
		return nil, err
	}
	r.sized() // name
	r.sized() // qualified name
	return modulus, r.done()
}

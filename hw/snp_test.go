package hw

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// entry is a table's entry.
func entry(kind string, offset, size int) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(kind), uint32(offset))
	return binary.LittleEndian.AppendUint32(b, uint32(size))
}

// A report and its chain are taken apart, in the chain's order, whatever the table's.
func TestOpenSNP(t *testing.T) {
	report := bytes.Repeat([]byte{7}, snpReport)
	table := append(entry(chainOrder[3], 72, 3), entry(chainOrder[0], 75, 4)...)
	table = append(append(table, make([]byte, 24)...), "ARKVCEK"...)
	signed, err := OpenSNP(append(bytes.Clone(report), table...))
	if err != nil || !bytes.Equal(signed.Quote, report) || len(signed.Certificates) != 2 ||
		string(signed.Certificates[0]) != "VCEK" || string(signed.Certificates[1]) != "ARK" || signed.Registers.MRTD[0] != 7 {
		t.Errorf("%+v, %v", signed, err)
	}
	if signed, err := OpenSNP(report); err != nil || signed.Certificates != nil {
		t.Errorf("a host without certificates: %v", err)
	}
	for name, bad := range map[string][]byte{
		"short report":   report[:snpReport-1],
		"no end":         append(bytes.Clone(report), entry(chainOrder[0], 0, 4)...),
		"beyond its end": append(append(bytes.Clone(report), entry(chainOrder[0], 40, 100)...), make([]byte, 24)...),
		"empty one":      append(append(bytes.Clone(report), entry(chainOrder[0], 40, 0)...), make([]byte, 24)...),
		"two of a kind":  append(append(append(bytes.Clone(report), entry(chainOrder[0], 0, 4)...), entry(chainOrder[0], 0, 4)...), make([]byte, 24)...),
	} {
		if _, err := OpenSNP(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpenSNP(f *testing.F) {
	f.Add(append(entry(chainOrder[0], 48, 4), make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, table []byte) {
		signed, err := OpenSNP(append(make([]byte, snpReport), table...))
		if err == nil && len(signed.Certificates) > len(chainOrder) {
			t.Errorf("%d certificates", len(signed.Certificates))
		}
	})
}

// The devices say which platform it is, and a TD's comes first.
func TestDetect(t *testing.T) {
	for _, c := range []struct {
		devices []string
		want    string
	}{
		{nil, TEETDX},
		{[]string{"tdx_guest"}, TEETDX},
		{[]string{"sev-guest"}, TEESNP},
		{[]string{"sev-guest", "tdx_guest"}, TEETDX},
		{[]string{"tpmrm0"}, TEETDX}, // a TPM of who knows whom
	} {
		dir := t.TempDir()
		for _, name := range c.devices {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		tee, err := Detect(t.Context(), Options{TDXOptions: TDXOptions{DevRoot: dir, SysRoot: dir}})
		if err != nil || tee.Parts().TEE != c.want {
			t.Errorf("with %v it is %v, must be %q: %v", c.devices, tee, c.want, err)
		}
	}
}

// nodeFiles is one entry of configfs-tsm, as the driver of SNP answers.
type nodeFiles struct {
	over []byte
	aux  []byte
	flip bool
}

func (n *nodeFiles) Access(string, bool) error          { return nil }
func (n *nodeFiles) List(string, int) ([]string, error) { return nil, nil }
func (n *nodeFiles) Mkdir(string) error                 { return nil }
func (n *nodeFiles) Remove(string) error                { return nil }
func (n *nodeFiles) Write(_ string, data []byte) (int, error) {
	n.over = bytes.Clone(data)
	return len(data), nil
}
func (n *nodeFiles) Read(path string, _ int) ([]byte, error) {
	switch filepath.Base(path) {
	case "provider":
		return []byte("sev_guest\n"), nil
	case "generation":
		if n.over == nil {
			return []byte("0\n"), nil
		}
		return []byte("1\n"), nil
	case "auxblob":
		return n.aux, nil
	}
	report := make([]byte, snpReport)
	copy(report[snpData:], n.over)
	if n.flip {
		report[snpData]++
	}
	return report, nil
}

func TestQuoteSNP(t *testing.T) {
	data := ReportData{1, 63: 9}
	table := append(append(entry(chainOrder[1], 48, 4), make([]byte, 24)...), "VLEK"...)
	s := newSNP(TDXOptions{Files: &nodeFiles{aux: table}})
	raw, err := s.Quote(context.Background(), data)
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := s.Open(raw); err != nil || ReportData(signed.Quote[snpData:][:64]) != data || string(signed.Certificates[0]) != "VLEK" {
		t.Errorf("%+v, %v", signed, err)
	}
	if _, err := newSNP(TDXOptions{Files: &nodeFiles{flip: true}}).Quote(context.Background(), data); !errors.Is(err, ErrMalformed) {
		t.Errorf("a report over other data: %v", err)
	}
	if _, err := NewTDX(TDXOptions{Files: &nodeFiles{}}).quoteTSM(context.Background(), data); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a TD takes an SNP report: %v", err)
	}
	if err := s.Extend(context.Background(), Digest{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("an extend: %v", err)
	}
}

package form

import (
	"testing"
)

// BenchmarkEncode is evidence in each of the forms that others read.
func BenchmarkEncode(b *testing.B) {
	e := evidence(b, bootLog(false))
	for _, form := range []string{Trustee, CMW, CEL} {
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				data, err := Encode(e, form)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(data)))
			}
		})
	}
}

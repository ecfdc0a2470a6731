package peer

import (
	"context"
	"testing"
)

func benchmark(b *testing.B, id *Identifier, conn *client) {
	b.Run("Identify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := id.Identify(context.Background(), conn.UnixConn)
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
	})
	b.Run("Check", func(b *testing.B) {
		c := identify(b, id, conn.UnixConn)
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Check(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHost(b *testing.B) {
	_, conn := startClient(b, listen(b))
	benchmark(b, newIdentifier(b, Options{}), conn)
}

// BenchmarkContainer is what a caller in a docker container costs, with
// records that are already in memory.
func BenchmarkContainer(b *testing.B) {
	d := newDocker(b)
	container, conn := d.start(nil)
	c, err := bundles{}.read(container)
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, newIdentifier(b, Options{Records: declare(c)}), conn)
}

package api

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"github.com/cima-project/cima/daemon/config"
)

// Who connects more often than it may ask is refused before it is named, and is told why;
// what it did before stays charged when its connections have ended.
func TestConnectRate(t *testing.T) {
	f := newFixture(t, func(c *config.Config) { c.Limits.RequestsPerSecond, c.Limits.RequestsBurst = 1e-6, 8 })
	taken, told := 0, 0
	for range 20 {
		nc, err := net.Dial("unix", f.socket())
		if err != nil {
			t.Fatal(err)
		}
		nc.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"x"}` + "\n"))
		line, _ := bufio.NewReader(nc).ReadString('\n')
		nc.Close()
		switch {
		case strings.Contains(line, "connects more than 1e-06 times a second"):
			told++
		case line != "":
			taken++
		}
	}
	// One came while nobody was looked up.
	if most := 8 + 1; taken > most || told == 0 || told+taken != 20 {
		t.Errorf("of 20 connections %d were taken, at most %d must be; %d were told why", taken, most, told)
	}
	if n := f.api.server.Counts().Refused; int(n) != told {
		t.Errorf("%d are counted as refused, must be %d", n, told)
	}
}

package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestBudgetCheck(t *testing.T) {
	b := Budget{BootLog: 40 << 10}
	l := Default().Limits
	l.EvidenceReply = 300 << 10
	err := b.Check(&l)
	if err == nil || !strings.Contains(err.Error(), "or more") {
		t.Fatalf("%v", err)
	}
	var most int
	fmt.Sscanf(err.Error()[strings.Index(err.Error(), "it must be "):], "it must be %d", &most)
	if l.EvidenceReply = most; b.Check(&l) != nil {
		t.Errorf("%d bytes would not do", most)
	}
}

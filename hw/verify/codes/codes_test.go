package codes

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/cima-project/cima/hw/verify/tables"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A waiver counts wherever it is, and what is demanded stands until it is waived.
func TestStands(t *testing.T) {
	told, stands := Wish{demand: []string{Volumes}}, Wish{waive: []string{Root}}
	for name, c := range map[string]struct {
		wishes         Wishes
		code           string
		stands, waived bool
	}{
		"by itself":         {nil, Root, true, false},
		"told":              {nil, Volumes, false, false},
		"no code":           {nil, "none", false, false},
		"waived":            {Wishes{told, stands}, Root, false, true},
		"demanded":          {Wishes{stands, told}, Volumes, true, false},
		"demanded, waived":  {Wishes{Demand(Executions), {waive: []string{Executions}}}, Executions, false, true},
		"another is waived": {Wishes{stands}, Nonce, true, false},
	} {
		if s, w := c.wishes.Stands(c.code); s != c.stands || w != c.waived {
			t.Errorf("%s: stands %v, waived %v, want %v %v", name, s, w, c.stands, c.waived)
		}
	}
}

// Who waives what doesn't stand, or demands what does, has misread a code.
func TestRead(t *testing.T) {
	for text, good := range map[string]bool{
		`waive = ["root-not-covered", "executions"]`:             true,
		`demand = ["volumes"]`:                                   true,
		`waive = ["volumes"]`:                                    false,
		`demand = ["root-not-covered"]`:                          false,
		`waive = ["none"]`:                                       false,
		"waive = [\"executions\"]\ndemand = [\"executions\"]\n":  false,
		"waive = [\"root-not-covered\"]\ndemand = [\"volumes\"]": true,
	} {
		table, err := tables.Read("policy.toml", []byte(text), len(text))
		if err != nil {
			t.Fatal(err)
		}
		Read(table)
		table.Done()
		if (table.Errors() == nil) != good {
			t.Errorf("%s: %v", text, table.Errors())
		}
	}
}

// What a system reads of its host has a code, which stands.
func TestHostInputs(t *testing.T) {
	for _, name := range HostInputs() {
		if c, there := Of(HostInput + name); !there || !c.Stands {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, there := Of("none"); there || len(All()) < 40 {
		t.Errorf("%d codes", len(All()))
	}
}

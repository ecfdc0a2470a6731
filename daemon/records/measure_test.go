package records

import (
	"context"
	"testing"
)

// Docker's labels are read from docker's own file, if the rules name any.
func TestLabels(t *testing.T) {
	x := newTree(t)
	x.store.options.Rules.Labels = []string{"team", "missing"}
	x.bundle("moby", id(1), "/docker/"+id(1), set("root.path", x.Dir+"/lib/overlay2/x/merged"))
	x.Write("lib/containers/"+id(1)+"/config.v2.json", []byte(`{"ID":"`+id(1)+`","Config":{"Labels":{"team":"a","other":"b"}}}`))
	r, _, err := x.declared("/docker/" + id(1))
	if err != nil {
		t.Fatal(err)
	}
	l, err := x.store.Measure(context.Background(), r)
	if err != nil || len(l.Asked.Labels) != 1 || l.Asked.Labels["team"] != "a" {
		t.Errorf("%v, %v", l.Asked.Labels, err)
	}
	if again, _, _ := x.declared("/docker/" + id(1)); len(again.Launch.Asked.Labels) != 0 {
		t.Error("measuring changed the record")
	}
}

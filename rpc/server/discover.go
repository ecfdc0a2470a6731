package server

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"slices"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/openrpc"
)

// WithDiscovery is a method table with MethodDiscover in it, which answers with an
// OpenRPC document of the table. It doesn't describe itself, as OpenRPC has it: programs
// that are generated from the document can't name a function rpc.discover.
func WithDiscovery(version string, methods []Method) []Method {
	var document jsontext.Value
	var err error
	discover := Define(rpc.MethodDiscover, func(context.Context, rpc.NoParams) (jsontext.Value, error) { return document, err })
	all := make([]openrpc.Method, len(methods))
	for i, m := range methods {
		all[i] = openrpc.Method{Name: m.Name, Params: m.params, Admin: m.admin, Results: m.Results}
	}
	document, err = json.Marshal(openrpc.Describe(version, all), spelling)
	return append(slices.Clone(methods), discover)
}

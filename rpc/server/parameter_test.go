package server

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/cima-project/cima/rpc"
)

// The tags of parameters agree with the constants, which callers use.
func TestParameters(t *testing.T) {
	nonce := schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes", rpc.MinNonce, rpc.MaxNonce), ContentEncoding: "base64", MinLength: 12, MaxLength: 88}
	data := schema{Type: "string", Description: fmt.Sprintf("0 to %d bytes", rpc.MaxUserData), ContentEncoding: "base64", MaxLength: 5464}
	flag, container := schema{Type: "boolean"}, parameter{"container_id", false, text(1, rpc.MaxContainerID)}
	for _, v := range []struct {
		of   rpc.Params
		want []parameter
	}{
		{new(rpc.NoParams), []parameter{}},
		{new(rpc.CCMeasurementParams), []parameter{{"index", true, number(0, rpc.MaxIndex)}, {"algo_id", false, number(rpc.AlgoSHA384, rpc.AlgoSHA384)}}},
		{new(rpc.CCEventLogParams), []parameter{{"start", false, number(0, 1<<31-1)}, {"count", false, number(1, rpc.MaxEventCount)}}},
		{new(rpc.CCReportParams), []parameter{{"nonce", true, nonce}, {"user_data", false, data}, {"shared", false, flag}}},
		{new(rpc.EvidenceParams), []parameter{{"nonce", true, nonce}, {"user_data", false, data},
			{"format", false, schema{Enum: []string{rpc.FormatCIMA, "trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv"}}}, {"shared", false, flag}}},
		{new(rpc.ExtendParams), []parameter{{"domain", true, text(1, rpc.MaxExtendWord)}, {"operation", true, text(1, rpc.MaxExtendWord)}, {"content", true, text(0, rpc.MaxExtendContent)}}},
		{new(rpc.StatusParams), []parameter{{"metrics", false, flag}}},
	} {
		if got := parameters(v.of, false); !reflect.DeepEqual(got, v.want) {
			t.Errorf("%T:\ngot  %+v\nwant %+v", v.of, got, v.want)
		}
		if got := parameters(v.of, true); !reflect.DeepEqual(got, append([]parameter{container}, v.want...)) {
			t.Errorf("%T of an admin: %+v", v.of, got)
		}
	}
}

func text(least, most int) schema   { return schema{Type: "string", MinLength: least, MaxLength: most} }
func number(least, most int) schema { return schema{Type: "integer", Minimum: &least, Maximum: &most} }

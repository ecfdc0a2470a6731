package rpc

import (
	"fmt"
	"reflect"
	"testing"
)

// The tags of parameters say what the constants say, which callers go by.
func TestParameters(t *testing.T) {
	nonce := Schema{Type: "string", Description: fmt.Sprintf("%d to %d bytes", MinNonce, MaxNonce), ContentEncoding: "base64", MinLength: 12, MaxLength: 88}
	data := Schema{Type: "string", Description: fmt.Sprintf("0 to %d bytes", MaxUserData), ContentEncoding: "base64", MaxLength: 5464}
	flag, container := Schema{Type: "boolean"}, Parameter{"container_id", false, text(1, MaxContainerID)}
	for _, v := range []struct {
		of   Params
		want []Parameter
	}{
		{new(NoParams), []Parameter{}},
		{new(CCMeasurementParams), []Parameter{{"index", true, number(0, MaxIndex)}, {"algo_id", false, number(AlgoSHA384, AlgoSHA384)}}},
		{new(CCEventLogParams), []Parameter{{"start", false, number(0, 1<<31-1)}, {"count", false, number(1, MaxEventCount)}}},
		{new(CCReportParams), []Parameter{{"nonce", true, nonce}, {"user_data", false, data}, {"shared", false, flag}}},
		{new(EvidenceParams), []Parameter{{"nonce", true, nonce}, {"user_data", false, data},
			{"format", false, Schema{Enum: []string{FormatCIMA, "trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv"}}}, {"shared", false, flag}}},
		{new(ExtendParams), []Parameter{{"domain", true, text(1, MaxExtendWord)}, {"operation", true, text(1, MaxExtendWord)}, {"content", true, text(0, MaxExtendContent)}}},
		{new(StatusParams), []Parameter{{"metrics", false, flag}}},
	} {
		if got := Parameters(v.of, false); !reflect.DeepEqual(got, v.want) {
			t.Errorf("%T:\ngot  %+v\nwant %+v", v.of, got, v.want)
		}
		if got := Parameters(v.of, true); !reflect.DeepEqual(got, append([]Parameter{container}, v.want...)) {
			t.Errorf("%T of an admin: %+v", v.of, got)
		}
	}
}

func text(least, most int) Schema   { return Schema{Type: "string", MinLength: least, MaxLength: most} }
func number(least, most int) Schema { return Schema{Type: "integer", Minimum: &least, Maximum: &most} }

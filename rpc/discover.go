package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// openRPC is the version of the OpenRPC specification (spec.open-rpc.org).
const openRPC = "1.3.2"

// A Signature is what discovery tells of a method: its name, the type that
// reads its parameters, and what it gives, one of Results.
type Signature struct {
	Name    string
	Params  Params
	Results []any
}

// SignatureOf takes a method's signature from its Go types.
func SignatureOf[P, R any, PP interface {
	*P
	Params
}](name string) Signature {
	var result R
	return Signature{Name: name, Params: PP(new(P)), Results: []any{result}}
}

// Named is the signature on the admin socket, where a container may be named.
func (s Signature) Named() Signature {
	s.Params = &adminParams{inner: s.Params}
	return s
}

// Discovery answers MethodDiscover: an OpenRPC document of the methods told of,
// and of itself.
func Discovery(version string, told []Signature) Handler {
	told = append(told, Signature{Name: MethodDiscover, Params: new(NoParams), Results: []any{json.RawMessage{}}})
	document, err := json.Marshal(describe(version, told))
	return Bind(func(context.Context, NoParams) (json.RawMessage, error) { return document, err })
}

// summaries are what each method gives, in a line.
var summaries = map[string]string{
	MethodGetDefaultAlgorithm: "the algorithm of every digest",
	MethodGetMeasurementCount: "how many registers GetCCMeasurement knows",
	MethodGetCCMeasurement:    "one register: 0-2 are RTMR0-2, 3 is the caller's container register",
	MethodGetCCEventLog:       "a page of the event log: the boot's events, IMA's where they extend RTMR2, the caller's own",
	MethodGetCCReport:         "a quote and the claims that it is bound to",
	MethodGetEvidence:         "evidence about the caller: a quote, what it is bound to, and the logs behind its registers",
	MethodGetMeasurements:     "all registers by name",
	MethodExtendMeasurement:   "makes an event of the container's own",
	MethodWhoAmI:              "the identity that the daemon sees",
	MethodDiscover:            "this document",
	MethodListContainers:      "every container that the daemon knows of",
	MethodGetStatus:           "the state of the daemon",
}

type document struct {
	OpenRPC string `json:"openrpc"`
	Info    struct {
		Title   string `json:"title"`
		Version string `json:"version"`
	} `json:"info"`
	Methods    []described `json:"methods"`
	Components struct {
		Schemas schemas                   `json:"schemas"`
		Errors  map[string]describedError `json:"errors"`
	} `json:"components"`
}

type described struct {
	Name           string      `json:"name"`
	Summary        string      `json:"summary"`
	ParamStructure string      `json:"paramStructure"`
	Params         []content   `json:"params"`
	Result         content     `json:"result"`
	Errors         []reference `json:"errors"`
}

// content is a content descriptor of OpenRPC.
type content struct {
	Name     string `json:"name"`
	Required bool   `json:"required,omitempty"`
	Schema   schema `json:"schema"`
}

type reference struct {
	Ref string `json:"$ref"`
}

type describedError struct {
	Code    Code    `json:"code"`
	Message string  `json:"message"`
	Data    *schema `json:"data,omitempty"` // the members that data has
}

func describe(version string, told []Signature) document {
	d := document{OpenRPC: openRPC}
	d.Info.Title, d.Info.Version = "cimad", version
	d.Components.Schemas = schemas{}
	d.Components.Errors = map[string]describedError{}
	var errs []reference
	for _, e := range errorTable {
		name := strings.TrimPrefix(fmt.Sprint(int(e.code)), "-")
		d.Components.Errors[name] = describedError{Code: e.code, Message: e.means, Data: errorData(e.data)}
		errs = append(errs, reference{"#/components/errors/" + name})
	}
	for _, s := range told {
		m := described{Name: s.Name, Summary: summaries[s.Name], ParamStructure: "by-name", Params: []content{}, Errors: errs}
		for _, p := range parameters(s.Params) {
			m.Params = append(m.Params, content{p.name, p.must, p.schema})
		}
		m.Result = content{Name: "result", Schema: d.Components.Schemas.either(s.Results)}
		d.Methods = append(d.Methods, m)
	}
	return d
}

func (all schemas) either(results []any) schema {
	var each []schema
	for _, r := range results {
		each = append(each, all.of(reflect.TypeOf(r)))
	}
	if len(each) == 1 {
		return each[0]
	}
	return schema{OneOf: each}
}

// errorData describes the members of ErrorData that an error has.
func errorData(names []string) *schema {
	whole := schema{Properties: map[string]*schema{}}
	schemas{}.fields(&whole, reflect.TypeFor[ErrorData]())
	if len(names) == 0 {
		return nil
	}
	data := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, name := range names {
		data.Properties[name] = whole.Properties[name]
	}
	return data
}

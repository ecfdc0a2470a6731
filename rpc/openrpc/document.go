// Package openrpc answers: how are the methods described?
//
// It makes an OpenRPC document of a method table, from the types and tags by which requests
// are decoded, so that what is described is what is checked.
package openrpc

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/cima-project/cima/rpc"
)

// openRPC is the version of the OpenRPC specification (spec.open-rpc.org).
const openRPC = "1.3.2"

// A Method is one that a document describes.
type Method struct {
	Name    string
	Params  rpc.Params // the type that the parameters are read into
	Admin   bool       // container_id may stand next to them
	Results []any      // values of the types that it returns, one of them at a time
}

// summaries say in a line what each method returns.
var summaries = map[string]string{
	rpc.MethodGetDefaultAlgorithm: "the algorithm of every digest",
	rpc.MethodGetMeasurementCount: "how many registers GetCCMeasurement knows",
	rpc.MethodGetCCMeasurement:    "one register: 0-2 are RTMR0-2, 3 is the caller's container register",
	rpc.MethodGetCCEventLog:       "a page of the event log: the boot's events, IMA's where they extend RTMR2, the caller's own",
	rpc.MethodGetCCReport:         "a quote and the claims that it is bound to",
	rpc.MethodGetEvidence:         "evidence about the caller: a quote, what it is bound to, and the logs behind its registers",
	rpc.MethodGetMeasurements:     "all registers by name",
	rpc.MethodExtendMeasurement:   "makes an event of the container's own",
	rpc.MethodWhoAmI:              "the identity that the daemon sees",
	rpc.MethodListContainers:      "every container that the daemon knows of",
	rpc.MethodGetStatus:           "the state of the daemon",
	rpc.MethodLookUpProcess:       "which container a process is in, and its classes of power",
}

// A Document is an OpenRPC document.
type Document struct {
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
	Name           string           `json:"name"`
	Summary        string           `json:"summary"`
	ParamStructure string           `json:"paramStructure"`
	Params         []content        `json:"params"`
	Result         content          `json:"result"`
	Errors         []describedError `json:"errors"` // not by reference: generators don't follow those
}

// content is a content descriptor of OpenRPC.
type content struct {
	Name     string `json:"name"`
	Required bool   `json:"required,omitzero"`
	Schema   schema `json:"schema"`
}

type describedError struct {
	Code    rpc.Code `json:"code"`
	Message string   `json:"message"`
	Data    *schema  `json:"data,omitzero"` // its members
}

// errorTable is every code with what it means and the members of its data
// (cima-api(7), ERRORS, says the same). Any method can end in any of them.
var errorTable = []struct {
	code  rpc.Code
	means string
	data  []string
}{
	{rpc.CodeParseError, "no JSON", nil},
	{rpc.CodeInvalidRequest, "no request", []string{"member"}},
	{rpc.CodeMethodNotFound, "no such method on this socket", nil},
	{rpc.CodeInvalidParams, "invalid parameters", []string{"member"}},
	{rpc.CodeInternalError, "internal error: the daemon's journal says more", nil},
	{rpc.CodeUnattributed, "unattributed: nobody can tell who is calling", nil},
	{rpc.CodeDenied, "denied", nil},
	{rpc.CodeRateLimited, "rate limited", []string{"retry_after_ms"}},
	{rpc.CodeTEEUnavailable, "TEE unavailable", []string{"errno"}},
	{rpc.CodeTooLarge, "too large", []string{"limit"}},
	{rpc.CodeLogInconsistent, "log inconsistent: no evidence before the next boot", []string{"agreed"}},
	{rpc.CodeShuttingDown, "shutting down: connect again", nil},
	{rpc.CodeNotReady, "not ready: ask again", []string{"retry_after_ms"}},
}

// Describe is the document of a method table.
func Describe(version string, methods []Method) Document {
	d := Document{OpenRPC: openRPC}
	d.Info.Title, d.Info.Version = "cimad", version
	d.Components.Schemas = schemas{}
	d.Components.Errors = map[string]describedError{}
	var errs []describedError
	for _, e := range errorTable {
		name := strings.TrimPrefix(fmt.Sprint(int(e.code)), "-")
		described := describedError{Code: e.code, Message: e.means, Data: errorData(e.data)}
		d.Components.Errors[name], errs = described, append(errs, described)
	}
	for _, s := range methods {
		m := described{Name: s.Name, Summary: summaries[s.Name], ParamStructure: "by-name", Params: []content{}, Errors: errs}
		for _, p := range parameters(s.Params, s.Admin) {
			m.Params = append(m.Params, content{p.name, p.required, p.schema})
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

// errorData describes the members of rpc.ErrorData that an error has.
func errorData(names []string) *schema {
	whole := schema{Properties: map[string]*schema{}}
	schemas{}.fields(&whole, reflect.TypeFor[rpc.ErrorData]())
	if len(names) == 0 {
		return nil
	}
	data := &schema{Type: "object", Properties: map[string]*schema{}}
	for _, name := range names {
		data.Properties[name] = whole.Properties[name]
	}
	return data
}

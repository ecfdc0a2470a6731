package vectors

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cima-project/cima/rpc"
)

type (
	describedParam struct {
		Name     string
		Required bool
		Schema   map[string]any
	}
	describedMethod struct {
		Name   string
		Params []describedParam
		Result struct{ Schema map[string]any }
	}
)

// discovered is the part of an OpenRPC document that these tests read.
type discovered struct {
	Methods    []describedMethod
	Components struct {
		Schemas map[string]map[string]any
		Errors  map[string]struct {
			Code    int
			Message string
			Data    map[string]any
		}
	}
}

func discover(t *testing.T, socket string) (d discovered) {
	t.Helper()
	c, err := rpc.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Recorded exchanges match discovery's description: results conform, and so do
// the parameters of requests that got one. Parameters that were refused don't.
func TestDiscoveryDescribesTheVectors(t *testing.T) {
	d := discover(t, newStage(t, "").socket())
	exchanges, _ := load(t)
	results, refused := 0, 0
	for _, x := range exchanges {
		if x.Method == "" {
			continue
		}
		at := slices.IndexFunc(d.Methods, func(m describedMethod) bool { return m.Name == x.Method })
		if at < 0 {
			t.Errorf("discovery must describe %s", x.Method)
			continue
		}
		m := d.Methods[at]
		properties, required := map[string]any{}, []any{}
		for _, p := range m.Params {
			properties[p.Name] = p.Schema
			if p.Required {
				required = append(required, p.Name)
			}
		}
		given := d.conforms(map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}, parsed(t, x.Params))
		result, failure := answer(t, x.Reply)
		if result != nil {
			results++
			if err := errors.Join(given, d.conforms(m.Result.Schema, parsed(t, result))); err != nil {
				t.Errorf("%s: %v", x.Name, err)
			}
			continue
		}
		var e rpc.Error
		if err := json.Unmarshal(failure, &e); err != nil {
			t.Fatal(err)
		}
		of := d.Components.Errors[strings.TrimPrefix(fmt.Sprint(int(e.Code)), "-")]
		var failed struct{ Data any }
		json.Unmarshal(failure, &failed)
		if failed.Data != nil {
			if err := d.conforms(closed(of.Data), failed.Data); err != nil {
				t.Errorf("%s: data: %v", x.Name, err)
			}
		}
		if e.Code == rpc.CodeInvalidParams && e.Message[:7] == "params:" { // not index 3 on the host, which the API refuses
			refused++
			if given == nil {
				t.Errorf("%s: refused (%s), although it conforms to the schema", x.Name, e.Message)
			}
		}
	}
	if results < 18 || refused < 6 {
		t.Errorf("only %d results and %d refusals were checked", results, refused)
	}
}

// cima-api(7) agrees with discovery: each method with its parameters, and which
// of them are optional; each error with its meaning and data.
func TestDiscoveryIsTheManual(t *testing.T) {
	page, err := os.ReadFile("../../man/cima-api.7.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, "")
	d, admin := discover(t, s.socket()), discover(t, s.path("run/cima-admin/admin.sock"))
	var listed []string
	for _, m := range d.Methods {
		listed = append(listed, m.Name+paramsOf(m.Params))
	}
	for _, m := range admin.Methods {
		// The manual says once, for all methods, that they take container_id.
		m.Params = slices.DeleteFunc(m.Params, func(p describedParam) bool { return p.Name == "container_id" })
		if line := m.Name + paramsOf(m.Params); !slices.Contains(listed, line) {
			listed = append(listed, line)
		}
	}
	var manual []string
	for _, m := range regexp.MustCompile(`(?m)^\*\*([\w.]+)\*\* \{(.*)\}$`).FindAllStringSubmatch(string(page), -1) {
		manual = append(manual, m[1]+"{"+strings.ReplaceAll(m[2], "*", "")+"}")
	}
	listed = append(listed, rpc.MethodDiscover+"{}") // which doesn't list itself
	slices.Sort(listed)
	slices.Sort(manual)
	if !slices.Equal(listed, manual) {
		t.Errorf("discovery lists\n%s\nthe manual\n%s", strings.Join(listed, "\n"), strings.Join(manual, "\n"))
	}
	var codes, rows []string
	for _, e := range d.Components.Errors {
		members, _ := e.Data["properties"].(map[string]any)
		codes = append(codes, fmt.Sprintf("%d %s %s", e.Code, e.Message, strings.Join(slices.Sorted(maps.Keys(members)), " ")))
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (-\d+) \| (.*?) \| \*?(\w*)\*? ?\|$`).FindAllStringSubmatch(string(page), -1) {
		rows = append(rows, strings.Join(m[1:], " "))
	}
	slices.Sort(codes)
	slices.Sort(rows)
	if !slices.Equal(codes, rows) || len(codes) < 13 {
		t.Errorf("discovery lists the errors\n%s\nthe manual\n%s", strings.Join(codes, "\n"), strings.Join(rows, "\n"))
	}
}

// paramsOf writes parameters in the manual's form.
func paramsOf(params []describedParam) string {
	var names []string
	for _, p := range params {
		if !p.Required {
			p.Name += "?"
		}
		names = append(names, p.Name)
	}
	return "{" + strings.Join(names, ", ") + "}"
}

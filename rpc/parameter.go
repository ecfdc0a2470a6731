package rpc

// A Schema is as much of JSON Schema (draft 7) as describes this protocol.
type Schema struct {
	Ref             string             `json:"$ref,omitempty"`
	OneOf           []Schema           `json:"oneOf,omitempty"`
	Type            string             `json:"type,omitempty"`
	Description     string             `json:"description,omitempty"`
	Enum            []string           `json:"enum,omitempty"`
	Pattern         string             `json:"pattern,omitempty"`
	ContentEncoding string             `json:"contentEncoding,omitempty"`
	MinLength       int                `json:"minLength,omitzero"`
	MaxLength       int                `json:"maxLength,omitzero"`
	Minimum         *int               `json:"minimum,omitzero"`
	Maximum         *int               `json:"maximum,omitzero"`
	Items           *Schema            `json:"items,omitzero"`
	Properties      map[string]*Schema `json:"properties,omitempty"`
	Required        []string           `json:"required,omitempty"`
	Additional      *Schema            `json:"additionalProperties,omitzero"`
}

// A Parameter is a member that a method's parameters may have.
type Parameter struct {
	Name     string
	Required bool
	Schema   Schema
}

// Parameters are what DecodeParams reads into p, and with admin set what
// DecodeAdminParams reads. The reader itself reports them, so the description is
// what is enforced.
func Parameters(p Params, admin bool) []Parameter {
	if admin {
		p = &adminParams{inner: p}
	}
	learned := []Parameter{}
	p.read(&members{learned: &learned})
	return learned
}

package command

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// PrintJSON prints a value as one line.
func PrintJSON(c *cobra.Command, v any) error {
	text, err := json.Marshal(v, jsontext.PreserveRawStrings(true), json.Deterministic(true), json.FormatNilSliceAsNull(true),
		json.FormatNilMapAsNull(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(append(text, '\n'))
	return err
}

// Table prints columns as wide as what they hold.
func Table(out io.Writer, fill func(*tabwriter.Writer)) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(w)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := Coloured(out).Write(b.Bytes())
	return err
}

// Row prints a row, unless its value is empty.
func Row(w io.Writer, name string, value any) {
	if s := fmt.Sprint(value); s != "" {
		fmt.Fprintf(w, "%s\t%s\n", name, s)
	}
}

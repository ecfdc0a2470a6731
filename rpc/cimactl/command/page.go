package command

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// WritePage writes a page to a file, or to stdout for "-". The file is there whole or not
// at all.
func WritePage(path string, page interface{ Write(io.Writer) error }) error {
	var b bytes.Buffer
	if err := page.Write(&b); err != nil {
		return err
	}
	if path == "-" {
		_, err := os.Stdout.Write(b.Bytes())
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the page: %w", err)
	}
	return nil
}

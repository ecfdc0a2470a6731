// Package engine answers: how does one program come into an image that holds
// nothing else?
package engine

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

// Import has an engine ("docker import - image", as command) make an image of a
// static program alone, under a name in its root directory.
func Import(command *exec.Cmd, program, name string) error {
	layer, err := layer(program, name)
	if err != nil {
		return err
	}
	command.Stdin = bytes.NewReader(layer)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("import the image: %w: %s", err, lastLine(out))
	}
	return nil
}

func layer(program, name string) ([]byte, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// lastLine is where engines say why.
func lastLine(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:]
}

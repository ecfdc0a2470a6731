//go:build !js

// Program web is the verifier in a page: see main.go. It runs in a browser alone.
package main

import (
	"fmt"
	"os"
)

// main says what builds the program: elsewhere than in a browser it has no page to serve.
func main() {
	fmt.Fprintln(os.Stderr, "web: it runs in a browser alone: make web")
	os.Exit(1)
}

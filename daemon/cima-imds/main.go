// Cima-imds passes on to cimad what the host of an Azure VM says, over HTTP, and is a program
// of its own so that cimad has no network. See cimad(8), Azure.
package main

import (
	"os"

	"github.com/cima-project/cima/hw/imds/host"
)

func main() { os.Exit(host.Main(os.Stderr)) }

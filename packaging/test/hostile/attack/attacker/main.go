// Command attacker runs one attack of package attack, in a container.
package main

import (
	"os"

	"github.com/cima-project/cima/packaging/test/hostile/attack"
)

func main() { os.Exit(attack.Main(os.Args[1:])) }

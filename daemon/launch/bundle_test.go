package launch

import "github.com/cima-project/cima/daemon/launch/launchtest"

// Short names keep the tables readable.
var (
	config  = launchtest.Config
	encode  = launchtest.Encode
	set     = launchtest.Set
	drop    = launchtest.Drop
	add     = launchtest.Add
	first   = launchtest.First
	without = launchtest.Without
	mount   = launchtest.Mount
)

type change = launchtest.Change

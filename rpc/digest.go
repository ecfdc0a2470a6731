package rpc

import "github.com/cima-project/cima/logs/canonical"

// Digest is a SHA-384 digest or a register's value; on the wire 96 lower-case
// hex digits.
type Digest = canonical.Digest

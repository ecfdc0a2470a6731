package command

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cima-project/cima/rpc"
)

// ErrNoNonce is the error of a nonce that is not given.
var ErrNoNonce = errors.New("a nonce must be given: without one the evidence could be old")

// ReadNonce reads hex from the flag, or from a line of stdin.
func ReadNonce(flag string, stdin io.Reader) ([]byte, error) {
	if flag == "" {
		return nil, Hinted(ErrNoNonce, "give what the relying party sent as --nonce HEX; `cimactl nonce` makes one")
	}
	if flag == "-" {
		line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the nonce: %w", err)
		}
		flag = strings.TrimSpace(line)
	}
	nonce, err := hex.DecodeString(flag)
	if err != nil {
		return nil, Hinted(fmt.Errorf("the nonce must be hex: %w", err), "write a nonce as 16 to 128 hex digits; `base64 -d | od -An -v -tx1 | tr -d ' \\n'` makes them of base64")
	}
	if len(nonce) < rpc.MinNonce || len(nonce) > rpc.MaxNonce {
		return nil, fmt.Errorf("a nonce must have %d to %d bytes, this one has %d", rpc.MinNonce, rpc.MaxNonce, len(nonce))
	}
	return nonce, nil
}

// ReadUserData reads what binds a channel. An empty file binds none.
func ReadUserData(path string) ([]byte, error) {
	data, err := ReadBounded(path, rpc.MaxUserData)
	if errors.Is(err, errLarge) {
		return nil, Hinted(err, "bind a hash of it: sha512sum FILE | cut -d' ' -f1 >bound")
	}
	if err == nil && len(data) == 0 {
		err = Hinted(fmt.Errorf("--user-data: %s must not be empty: it would bind nothing", path), "did the command that wrote it fail?")
	}
	return data, err
}

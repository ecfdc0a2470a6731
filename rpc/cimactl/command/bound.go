package command

import (
	"bufio"
	"encoding/base64"
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
		if flag = strings.TrimSpace(line); flag == "" {
			return nil, Hinted(errors.New("the nonce must be a line of stdin, which is empty"), "docker run and docker exec pass stdin on with -i")
		}
	}
	nonce, err := hex.DecodeString(flag)
	if err != nil {
		return nil, notHex(flag)
	}
	if len(nonce) < rpc.MinNonce || len(nonce) > rpc.MaxNonce {
		return nil, fmt.Errorf("a nonce must have %d to %d bytes, this one has %d", rpc.MinNonce, rpc.MaxNonce, len(nonce))
	}
	return nonce, nil
}

// notHex says what is wrong with a nonce, and what was probably meant.
func notHex(nonce string) error {
	what := fmt.Sprintf("the number of digits must be even, not %d", len(nonce))
	if at := strings.IndexFunc(nonce, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }); at >= 0 {
		what = fmt.Sprintf("byte %d is in %.16q", at+1, nonce[at:])
	}
	err := fmt.Errorf("the nonce must be hex, of %d to %d digits: %s", 2*rpc.MinNonce, 2*rpc.MaxNonce, what)
	for _, form := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if n, no := form.Strict().DecodeString(nonce); no == nil && len(n) >= rpc.MinNonce && len(n) <= rpc.MaxNonce {
			return Hinted(err, "if this is base64, as in the daemon's JSON, the nonce in hex is %x", n)
		}
	}
	return Hinted(err, "`cimactl nonce` makes one; of base64, `base64 -d | od -An -v -tx1 | tr -d ' \\n'` makes hex")
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

package seal

import (
	"bytes"
	"context"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/rpc"
	"github.com/cima-project/cima/rpc/cimactl/command"
	"github.com/cima-project/cima/rpc/userdata"
)

// secretFD is the descriptor by which a program gets the secret.
const secretFD = 3

// unsealing is one run of `cimactl unseal`.
type unsealing struct {
	nonce, evidence, out string
	wait, within         time.Duration
}

// Commands are `cimactl unseal`.
func Commands() []*cobra.Command {
	var u unsealing
	c := &cobra.Command{
		Use:   "unseal --nonce HEX [-- PROGRAM ARG…]",
		Short: "Get a secret that only this container can open",
		Long: `Get a secret that only this container can open. It prints evidence that binds a
new key, and reads from stdin what "cimactl verify --seal" wrote. The key lives
in this process alone. PROGRAM takes this process's place: it reads the secret
from descriptor 3 (/proc/self/fd/3), which is memory, and not a file. With
"--nonce -" a line of stdin comes first, the nonce: a container whose command
line this is has one launch digest, whatever the nonce.`,
		Example: `  cimactl unseal --nonce - -- /app --secret /proc/self/fd/3
  cimactl unseal --nonce "$NONCE" --out /dev/shm/secret`,
		DisableFlagsInUseLine: true,
		Args: func(c *cobra.Command, args []string) error {
			if at := c.ArgsLenAtDash(); len(args) > 0 && at != 0 {
				return errors.New("a program must come after --")
			}
			return nil
		},
	}
	c.Flags().StringVar(&u.nonce, "nonce", "", "the relying party's `HEX`; - reads a line of stdin")
	c.Flags().StringVar(&u.evidence, "evidence", "-", "`FILE` to write the evidence to, not stdout")
	c.Flags().StringVar(&u.out, "out", "", "new `FILE`, mode 0600, to write the secret to")
	c.Flags().DurationVar(&u.wait, "wait", 0, "wait for a daemon that isn't there yet: `TIME`, 30s")
	c.Flags().DurationVar(&u.within, "within", 10*time.Minute, "give up after this `TIME`")
	c.RunE = func(c *cobra.Command, args []string) error { return u.run(c, args) }
	return []*cobra.Command{c}
}

// check refuses what would end badly, before a key is made.
func (u *unsealing) check(args []string) error {
	switch {
	case u.out != "" && len(args) > 0:
		return errors.New("--out and a PROGRAM must not both be given: the secret goes to one place")
	case u.out == "" && len(args) == 0 && u.evidence == "-":
		return command.Hinted(errors.New("a PROGRAM, --out or --evidence must be given: evidence and secret must not both go to stdout"), "whoever reads the evidence there would read the secret too")
	case u.within <= 0 || u.wait < 0:
		return errors.New("--within must be above zero, and --wait not below it")
	}
	return nil
}

func (u *unsealing) run(c *cobra.Command, args []string) error {
	if err := u.check(args); err != nil {
		return command.Usage(c, err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), u.within)
	defer cancel()
	nonce, err := await(ctx, "no nonce came in time", func() ([]byte, error) {
		return command.ReadNonce(u.nonce, byByte{c.InOrStdin()})
	})
	if err != nil {
		return err
	}
	program := ""
	if len(args) > 0 {
		if program, err = exec.LookPath(args[0]); err != nil {
			return err
		}
	}
	// No core dump, and no tracing by another process of the user's.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	key, err := age.GenerateHybridIdentity()
	if err != nil {
		return err
	}
	evidence, err := u.ask(ctx, c, nonce, key.Recipient().String())
	if err != nil {
		return err
	}
	if err := u.show(c, evidence); err != nil {
		return err
	}
	sealed, err := readSealed(ctx, c.InOrStdin())
	if err != nil {
		return err
	}
	secret, err := open(sealed, key, nonce)
	if err != nil {
		return err
	}
	return u.give(c, secret, program, args)
}

// ask gets evidence that binds the recipient. The bundle stays as it came.
func (u *unsealing) ask(ctx context.Context, c *cobra.Command, nonce []byte, recipient string) (jsontext.Value, error) {
	bound, err := userdata.Seal(recipient)
	if err != nil {
		return nil, err
	}
	path, err := c.Flags().GetString("socket")
	if err != nil {
		return nil, err
	}
	d, err := rpc.Dialer{Path: path, Patience: u.wait}.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var evidence jsontext.Value
	err = d.Call(ctx, rpc.MethodGetEvidence, rpc.EvidenceParams{Nonce: nonce, UserData: bound}, &evidence)
	return evidence, err
}

func (u *unsealing) show(c *cobra.Command, evidence jsontext.Value) error {
	line := append(evidence, '\n')
	if u.evidence == "-" {
		_, err := c.OutOrStdout().Write(line)
		return err
	}
	return os.WriteFile(u.evidence, line, 0o644)
}

// armourEnd is the last line of what is sealed. What follows it on stdin is the program's.
const armourEnd = "-----END AGE ENCRYPTED FILE-----"

// readSealed reads stdin up to the end of the armour, and not a byte further.
func readSealed(ctx context.Context, in io.Reader) ([]byte, error) {
	return await(ctx, "no sealed secret came in time: the key is gone", func() ([]byte, error) { return upToEnd(in) })
}

// await reads from stdin as long as there is time.
func await(ctx context.Context, late string, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		got []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		got, err := read()
		done <- result{got, err}
	}()
	select {
	case r := <-done:
		return r.got, r.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, command.Hinted(errors.New(late), "--within is how long to wait; a new start needs new evidence")
		}
		return nil, ctx.Err()
	}
}

// byByte reads no further than it is asked, so that what follows a line stays on stdin.
type byByte struct{ from io.Reader }

func (b byByte) Read(to []byte) (int, error) { return b.from.Read(to[:min(1, len(to))]) }

func upToEnd(in io.Reader) ([]byte, error) {
	var all []byte
	one := make([]byte, 1)
	for line := 0; ; {
		_, err := io.ReadFull(in, one)
		if errors.Is(err, io.EOF) && len(all) == 0 {
			return nil, errors.New("no sealed secret came on stdin")
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the sealed secret: %w", err)
		}
		if all = append(all, one[0]); len(all) > maxSealed {
			return nil, fmt.Errorf("a sealed secret must have at most %d bytes", maxSealed)
		}
		if one[0] != '\n' {
			continue
		}
		if string(bytes.TrimRight(all[line:], "\r\n")) == armourEnd {
			return all, nil
		}
		line = len(all)
	}
}

// give hands the secret on: to a program, to a new file, or to stdout.
func (u *unsealing) give(c *cobra.Command, secret []byte, program string, args []string) error {
	switch {
	case program != "":
		return become(program, args, secret)
	case u.out == "":
		_, err := c.OutOrStdout().Write(secret)
		return err
	}
	f, err := os.OpenFile(u.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return command.Hinted(err, "the secret goes to a new file, so that nobody has it open")
	}
	if _, err := f.Write(secret); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// become lets the program take this process's place, so that the key is gone. It gets the
// secret as sealed memory; its environment is as it was.
func become(program string, args []string, secret []byte) error {
	fd, err := unix.MemfdCreate("secret", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "secret")
	if _, err := f.Write(secret); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		return fmt.Errorf("seal the memory: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if int(f.Fd()) == secretFD {
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	} else {
		err = unix.Dup3(int(f.Fd()), secretFD, 0)
	}
	if err != nil {
		return fmt.Errorf("descriptor %d: %w", secretFD, err)
	}
	return fmt.Errorf("%s: %w", program, unix.Exec(program, args, os.Environ()))
}

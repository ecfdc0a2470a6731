package ledger

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cima-project/cima/logs/canonical"

	"golang.org/x/sys/unix"

	"github.com/cima-project/cima/hw"
	"github.com/cima-project/cima/logs"
)

// FileName is the name of the log in its directory.
const FileName = "runtime.log"

const formatVersion = 1

// maxCgroup is the most bytes of a cgroup's path: PATH_MAX.
const maxCgroup = 4096

// maxLine is the most bytes of a line: an event and a path in base64, and the
// other members.
const maxLine = (logs.MaxEvent+maxCgroup)*4/3 + 1024

// file is the log on disk: a header line, then one JSON line for each event. A
// last line without a newline was not written to its end, and is cut off.
type file struct {
	f    *os.File
	size int64 // end of the last whole line
}

type header struct {
	Version int    `json:"cima"`
	BootID  string `json:"boot_id"`
}

// diskRecord is a line of the log.
type diskRecord struct {
	Before   hw.Digest
	After    hw.Digest
	Instance string
	Charge   string
	Cgroup   []byte
	Event    []byte

	offset int64
	length int32
}

type diskForm struct {
	Before   string `json:"before"`
	After    string `json:"after"`
	Instance string `json:"instance,omitempty"`
	Charge   string `json:"charge,omitempty"` // of a public event: who caused it; not in evidence
	Cgroup   []byte `json:"cgroup,omitempty"` // of a launch whose container is in no list of records
	Event    []byte `json:"event"`
}

func (r diskRecord) event() (logs.Event, error) {
	e, err := logs.ParseEvent(r.Event)
	if err != nil {
		return logs.Event{}, fmt.Errorf("runtime log, byte %d: %w", r.offset, err)
	}
	return e, nil
}

func (r diskRecord) encode() ([]byte, error) {
	line, err := json.Marshal(diskForm{r.Before.String(), r.After.String(), r.Instance, r.Charge, r.Cgroup, r.Event},
		jsontext.EscapeForHTML(true), jsontext.EscapeForJS(true), jsontext.AllowInvalidUTF8(true)) // as encoding/json wrote the file
	return append(line, '\n'), err
}

func decodeRecord(line []byte, offset int64) (diskRecord, error) {
	r := diskRecord{offset: offset, length: int32(len(line))}
	var d diskForm
	if err := canonical.Decode(line, &d); err != nil {
		return r, fmt.Errorf("runtime log, byte %d: %w", offset, err)
	}
	for _, x := range []struct {
		text string
		to   *hw.Digest
	}{{d.Before, &r.Before}, {d.After, &r.After}} {
		b, err := hex.DecodeString(x.text)
		if err != nil || len(b) != len(x.to) {
			return r, fmt.Errorf("runtime log, byte %d: a register must have 96 hexadecimal digits", offset)
		}
		copy(x.to[:], b)
	}
	r.Instance, r.Charge, r.Cgroup, r.Event = d.Instance, d.Charge, d.Cgroup, d.Event
	return r, nil
}

// diskSize estimates how many bytes an event takes on disk.
func diskSize(e logs.Event) int64 { return int64(len(e.Bytes()))*4/3 + 256 }

// openFile opens the log of this boot. It renames a log of another boot: the
// registers of that boot are gone, so nothing attests that log any more.
func openFile(dir, bootID string) (*file, error) {
	path := filepath.Join(dir, FileName)
	for range 2 {
		f, err := openLocked(path)
		if err != nil {
			return nil, err
		}
		head, n, err := readHeader(f.f)
		switch {
		case err != nil:
			f.Close()
			return nil, err
		case n == 0: // new, or the daemon died before it had written the header
			if err := f.begin(bootID); err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		case head.Version != formatVersion:
			f.Close()
			return nil, fmt.Errorf("%s: the format is %d, must be %d: reboot after a downgrade", path, head.Version, formatVersion)
		case head.BootID == bootID:
			f.size = n
			return f, nil
		}
		err = os.Rename(path, path+".old")
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("rename the log of another boot: %w", err)
		}
	}
	return nil, fmt.Errorf("%s: the file changed while it was opened", path)
}

func openLocked(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("runtime log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w: another daemon must not run", path, err)
	}
	return &file{f: f}, nil
}

// readHeader returns the header and its length, which is 0 if the file has no
// header yet.
func readHeader(f *os.File) (header, int64, error) {
	var h header
	line, err := bufio.NewReaderSize(io.NewSectionReader(f, 0, 4096), 4096).ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		return h, 0, nil
	}
	if err == nil {
		err = canonical.Decode(line, &h)
	}
	if err != nil {
		return h, 0, fmt.Errorf("%s: header: %w", f.Name(), err)
	}
	return h, int64(len(line)), nil
}

func (f *file) begin(bootID string) error {
	line, err := json.Marshal(header{formatVersion, bootID})
	if err != nil {
		return err
	}
	if err := f.truncate(0); err != nil {
		return err
	}
	return f.write(append(line, '\n'))
}

// scan calls fn for each whole record, and cuts off a record that was not written
// to its end.
func (f *file) scan(fn func(diskRecord) error) error {
	_, at, err := readHeader(f.f)
	if err != nil {
		return err
	}
	end, err := f.f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("runtime log: %w", err)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f.f, at, end-at), maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return f.truncate(at)
		}
		if err != nil {
			return fmt.Errorf("runtime log, byte %d: %w", at, err)
		}
		r, err := decodeRecord(bytes.Clone(line), at)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
		at += int64(len(line))
		f.size = at
	}
}

func (f *file) append(r *diskRecord) error {
	line, err := r.encode()
	if err != nil {
		return fmt.Errorf("runtime log: %w", err)
	}
	r.offset, r.length = f.size, int32(len(line))
	return f.write(line)
}

// write adds a line. After an error, as of a full disk, the file is as before.
func (f *file) write(line []byte) error {
	if _, err := f.f.WriteAt(line, f.size); err != nil {
		return errors.Join(fmt.Errorf("write the runtime log: %w", err), f.truncate(f.size))
	}
	f.size += int64(len(line))
	return nil
}

func (f *file) truncate(size int64) error {
	if err := f.f.Truncate(size); err != nil {
		return fmt.Errorf("cut the runtime log: %w", err)
	}
	f.size = size
	return nil
}

// read returns the event of a record.
func (f *file) read(r record) (logs.Event, error) {
	line := make([]byte, r.length)
	if _, err := f.f.ReadAt(line, r.offset); err != nil {
		return logs.Event{}, fmt.Errorf("read the runtime log: %w", err)
	}
	d, err := decodeRecord(line, r.offset)
	if err != nil {
		return logs.Event{}, err
	}
	e, err := d.event()
	if err == nil && hw.Digest(e.Digest()) != r.digest {
		err = fmt.Errorf("runtime log, byte %d: the event does not have the digest that it was logged with: another program changed the file", r.offset)
	}
	return e, err
}

func (f *file) Close() error { return f.f.Close() }

package predict

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// Files reads a file that a line, a compose file or a manifest names.
type Files func(name string) ([]byte, error)

// Line reads a command line that runs or creates one container by docker or podman.
func Line(line string, files Files) (*Container, error) {
	if !utf8.ValidString(line) || strings.ContainsRune(line, 0) {
		return nil, errors.New("a line must be UTF-8 without NUL")
	}
	words, err := shellWords(line)
	if err != nil {
		return nil, err
	}
	words, err = afterSudo(words)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, hint(errors.New("an empty line"), "such as 'docker run IMAGE'")
	}
	tables, ok := flagTables()[Engine(path.Base(words[0]))]
	if !ok {
		return nil, hint(fmt.Errorf("%q is neither docker nor podman", words[0]), "give the line as it starts the container: docker run …, podman run …")
	}
	engine := Engine(path.Base(words[0]))
	r := &reader{c: &Container{Engine: engine, ReadOnlyTmpfs: engine == Podman}, files: files}
	words, err = r.parse(words[1:], tables.global)
	if err != nil {
		return nil, err
	}
	words, err = afterVerb(words)
	if err != nil {
		return nil, err
	}
	words, err = r.parse(words, tables.run)
	if err != nil {
		return nil, err
	}
	return r.finish(words)
}

// afterSudo leaves out sudo, as long as it makes the command root's.
func afterSudo(words []string) ([]string, error) {
	if len(words) > 0 && strings.Contains(words[0], "=") {
		return nil, hint(fmt.Errorf("%q: a variable before the command", words[0]), "it is the client's alone; give the container's by --env")
	}
	if len(words) == 0 || path.Base(words[0]) != "sudo" {
		return words, nil
	}
	for words = words[1:]; len(words) > 0 && strings.HasPrefix(words[0], "-"); words = words[1:] {
		if words[0] == "--" {
			return words[1:], nil
		}
		if !slices.Contains([]string{"-E", "-n", "-H", "--preserve-env", "--non-interactive", "--set-home"}, words[0]) {
			return nil, hint(fmt.Errorf("sudo %s is not known here", words[0]), "leave sudo out: the engine must be root's")
		}
	}
	return words, nil
}

// afterVerb leaves out the words that say that a container is run or created.
func afterVerb(words []string) ([]string, error) {
	if len(words) > 0 && words[0] == "container" {
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "run" && words[0] != "create" {
		verb := strings.Join(words[:min(len(words), 2)], " ")
		return nil, hint(fmt.Errorf("%q starts no container that can be predicted", verb), "it must be run, create, container run or container create")
	}
	return words[1:], nil
}

// reader fills in a Container from flags.
type reader struct {
	c           *Container
	files       Files
	file, given []Variable // of --env-file, which come first; of --env
}

// value is one flag's, for pflag: the engines parse by it themselves.
type value struct {
	r    *reader
	flag option
}

func (v *value) String() string { return "" }
func (v *value) Type() string   { return "value" }

// IsBoolFlag lets a flag stand without a value.
func (v *value) IsBoolFlag() bool { return v.flag.kind == boolean }

func (v *value) Set(text string) error {
	if v.flag.set == nil {
		return nil
	}
	return v.flag.set(v.r, text)
}

// parse reads flags up to the first word that is none, and returns what follows.
func (r *reader) parse(words []string, table []option) ([]string, error) {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.SetInterspersed(false)
	for _, f := range table {
		added := set.VarPF(&value{r, f}, f.name, f.short, "")
		if f.kind == boolean {
			added.NoOptDefVal = "true"
		}
	}
	if err := set.Parse(words); err != nil {
		err = fmt.Errorf("%s: %w", r.c.Engine, err)
		if errors.As(err, new(*hinted)) {
			return nil, err
		}
		return nil, hint(err, "cimactl(1) says which flags are known, and what each changes")
	}
	return set.Args(), nil
}

// finish takes the image and the command.
func (r *reader) finish(words []string) (*Container, error) {
	if len(words) == 0 {
		return nil, hint(errors.New("the line names no image"), "the image follows the flags")
	}
	r.c.Image, r.c.Command = words[0], words[1:]
	r.c.Environment = slices.Concat(r.file, r.given)
	if r.c.uidMap == nil {
		r.c.uidMap = r.c.gidMap
	} else if r.c.gidMap == nil {
		r.c.gidMap = r.c.uidMap
	}
	return r.c, nil
}

// hinted is an error with a word on what to do.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }
func (h *hinted) Hint() string  { return h.hint }

func hint(err error, text string) error { return &hinted{err, text} }

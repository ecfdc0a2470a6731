// Prove boots systems under QEMU with a software TPM, and compares what firmware, boot
// loaders and kernels measured with what cimactl predicted (packaging/test/boot/run).
//
// The TPM's log stands for a TD's: the same code measures, and a TPM's register of SHA-384
// is extended as an RTMR is. PCRs become RTMRs by UEFI 2.10, section 38.4.1.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	cimactl = flag.String("cimactl", "bin/cimactl", "`PROGRAM` to test")
	dir     = flag.String("dir", ".cache/boot", "`DIR` with unpacked packages")
	only    = flag.String("only", "", "`REGEXP` of the boots to try")
	shared  = flag.String("testdata", "../shared/testdata", "`DIR` with real logs; left out where there is none")
)

// suite is a Debian release: where its files are.
type suite struct{ name, files string }

func (s suite) glob(pattern string) string {
	found, err := filepath.Glob(filepath.Join(s.files, pattern))
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0]
}

func (s suite) kernel() string {
	if k := s.glob("boot/vmlinuz-*"); k != "" {
		return k
	}
	return s.glob("usr/lib/modules/*/vmlinuz")
}

func main() {
	flag.Parse()
	absolute, err := filepath.Abs(*dir)
	if err != nil {
		fail(err)
	}
	*dir = absolute
	want, err := regexp.Compile(*only)
	if err != nil {
		fail(err)
	}
	failed, seen := 0, 0
	for _, name := range []string{"bookworm", "trixie", "sid"} {
		s := suite{name, filepath.Join(*dir, "files-"+name)}
		for _, way := range ways {
			id := name + " " + way.name
			if !want.MatchString(id) {
				continue
			}
			seen++
			line, err := prove(s, way)
			if err != nil {
				failed++
				line = "FAILS: " + err.Error()
			}
			fmt.Printf("%-16s %s\n", id, line)
		}
	}
	if want.MatchString("logs") {
		bad, err := realLogs()
		if err != nil {
			fail(err)
		}
		failed += bad
	}
	if failed > 0 || seen == 0 && *only == "" {
		fail(fmt.Errorf("%d of %d boots failed", failed, seen))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "proof-boot:", err)
	os.Exit(1)
}

// must is a path, or an error where a package hasn't the file.
func must(path, what string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("there is no %s", what)
	}
	return path, nil
}

// version is what of a file's name tells its version.
func version(path string) string {
	return strings.TrimPrefix(filepath.Base(path), "vmlinuz-")
}

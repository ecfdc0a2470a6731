package cmdline

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// How a root file system is covered, as a policy says it.
const (
	Verity     = "verity"      // dm-verity, by a root hash on the line
	Initrd     = "initrd"      // it is the initrd, which a register covers
	Composefs  = "composefs"   // composefs, by a digest on the line
	IMA        = "ima"         // IMA's appraisal: files that its policy names, and not their absence
	NotCovered = "not covered" // by no register
)

// Roots are all of them.
var Roots = []string{Verity, Initrd, Composefs, IMA, NotCovered}

// Covers says why the line does not cover the root file system so; nil if it does. own is
// the key of a word that a known initrd reads by a rule of its own, "" for none.
func (l *Line) Covers(root, own string) error {
	if own != "" && root != Verity && root != Composefs {
		return fmt.Errorf("root_word must come with root = %q or %q", Verity, Composefs)
	}
	switch {
	case own != "":
		return l.hash(own)
	case root == Verity:
		return l.verity()
	case root == Initrd:
		return l.initrd()
	case root == Composefs:
		return l.composefs()
	case root == IMA:
		return l.ima()
	}
	return nil
}

var (
	rootHash = regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$`)
	dmDevice = regexp.MustCompile(`^/dev/dm-[0-9]+$`)
)

// hash wants a root hash in the only word of that key.
func (l *Line) hash(key string) error {
	value, there, err := l.once(key)
	switch {
	case err != nil:
		return err
	case !there:
		return fmt.Errorf("the line has no %s=", key)
	case !rootHash.MatchString(value):
		return fmt.Errorf("%s= must be a digest of 64, 96 or 128 lower-case hex digits", key)
	}
	return nil
}

func (l *Line) verity() error {
	if err := l.weakened(); err != nil {
		return err
	}
	root, hasRoot, err := l.once("root")
	if err != nil {
		return err
	}
	switch {
	case l.has("dm-mod.create"):
		return l.byKernel(root)
	case l.has("roothash"):
		if hasRoot && root != "/dev/mapper/root" {
			return fmt.Errorf("root=%s is not the device that roothash= covers: it must be /dev/mapper/root, or left out", clip(root))
		}
		return l.hash("roothash")
	case l.has("usrhash"), l.has("verity.usrhash"):
		if root != "tmpfs" && !slices.Equal(l.values("systemd.volatile"), []string{"yes"}) {
			return errors.New("/usr alone is covered: the root file system must begin empty, by root=tmpfs or systemd.volatile=yes")
		}
		if l.has("usrhash") {
			return l.hash("usrhash")
		}
		return l.hash("verity.usrhash")
	case hasRoot:
		return fmt.Errorf("root=%s, and no word of the line has a root hash", clip(root))
	}
	return errors.New("no word of the line has a root hash")
}

// weakened finds words that switch dm-verity off, or make it tolerate what is corrupt.
func (l *Line) weakened() error {
	for _, w := range l.words {
		off := w.value == "0" || w.value == "no" || w.value == "off" || w.value == "false"
		switch {
		case (w.key == "systemd.verity" || w.key == "rd.systemd.verity") && off,
			strings.HasPrefix(w.key, "systemd.verity_") && strings.Contains(w.value, "ignore"),
			strings.HasPrefix(w.key, "systemd.verity_root_data"), strings.HasPrefix(w.key, "systemd.verity_root_hash"):
			return fmt.Errorf("%s=%s takes dm-verity back", w.key, clip(w.value))
		}
	}
	return nil
}

// byKernel reads dm-mod.create=, by which the kernel itself sets up dm-verity:
// NAME,UUID,MINOR,FLAGS,TABLE[,TABLE…][;…] (admin-guide/device-mapper/dm-init.rst).
func (l *Line) byKernel(root string) error {
	create, _, err := l.once("dm-mod.create")
	if err != nil {
		return err
	}
	if !dmDevice.MatchString(root) {
		return fmt.Errorf("root=%s is no device of dm-mod.create=: it must be /dev/dm-N", clip(root))
	}
	if strings.Contains(create, ";") {
		return errors.New("dm-mod.create= must make one device: which one is the root?")
	}
	parts := strings.SplitN(create, ",", 5)
	if len(parts) < 5 || parts[3] != "ro" || strings.Contains(parts[4], ",") {
		return errors.New("dm-mod.create= must make one device of one table, with the flag ro")
	}
	// start size verity [version] data hash block block blocks start algorithm digest salt
	fields := strings.Fields(parts[4])
	if len(fields) < 11 || fields[2] != "verity" {
		return errors.New("dm-mod.create= must make a dm-verity device")
	}
	at := slices.IndexFunc(fields, rootHash.MatchString)
	if at < 0 || !slices.Contains([]string{"sha256", "sha384", "sha512"}, fields[at-1]) {
		return errors.New("dm-mod.create= must have a root hash by sha256, sha384 or sha512")
	}
	if slices.Contains(fields, "ignore_corruption") {
		return errors.New("dm-mod.create= has ignore_corruption, which takes dm-verity back")
	}
	return nil
}

func (l *Line) initrd() error {
	for _, key := range []string{"root", "roothash", "nfsroot", "mount.usr", "systemd.image_policy"} {
		if l.has(key) {
			return fmt.Errorf("%s= names a root file system besides the initrd", key)
		}
	}
	return nil
}

func (l *Line) composefs() error {
	for _, key := range []string{"composefs", "composefs.digest"} {
		if l.has(key) {
			return l.hash(key) // "?HEX" is optional, and no digest
		}
	}
	return errors.New("the line has no composefs=")
}

func (l *Line) ima() error {
	if found := l.values("ima_appraise"); len(found) > 0 && !slices.Equal(found, []string{"enforce"}) {
		return errors.New("ima_appraise= must be enforce, once")
	}
	return nil
}

// clip keeps messages short.
func clip(text string) string {
	if len(text) > 60 {
		return strings.ToValidUTF8(text[:60], "") + "…"
	}
	return text
}

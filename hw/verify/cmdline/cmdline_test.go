package cmdline

import (
	"slices"
	"strings"
	"testing"
)

const hash64 = "6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d6f1d"

// cos is a line as Google's Container-Optimized OS has it.
const cos = `BOOT_IMAGE=/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd boot=local rootwait ro noresume loglevel=7 ` +
	`root=/dev/dm-0 dm_verity.error_behavior=3 "dm-mod.create=vroot,,,ro,0 4077568 verity 0 PARTUUID=A PARTUUID=A 4096 4096 509696 509696 sha256 ` + hash64 + ` ` + hash64 + `"`

func TestCovers(t *testing.T) {
	for _, c := range []struct{ line, root, own, want string }{
		{cos, Verity, "", ""},
		{strings.ReplaceAll(cos, "dm-mod.create", "dm_mod.create"), Verity, "", ""},
		{strings.ReplaceAll(cos, "/dev/dm-0", "PARTUUID=A"), Verity, "", "must be /dev/dm-N"},
		{strings.ReplaceAll(cos, "verity 0", "linear 0"), Verity, "", "dm-verity device"},
		{strings.ReplaceAll(cos, ",ro,", ",rw,"), Verity, "", "flag ro"},
		{strings.ReplaceAll(cos, hash64+`"`, hash64+` 1 ignore_corruption"`), Verity, "", "ignore_corruption"},
		{strings.ReplaceAll(cos, hash64+`"`, hash64+`;b,,,ro,0 1 linear /dev/sda 0"`), Verity, "", "one device"},
		{cos + " root=/dev/sda", Verity, "", "once"},
		{"ro roothash=" + hash64, Verity, "", ""},
		{"ro -- roothash=" + hash64, Verity, "", ""},
		{"root=/dev/mapper/root roothash=" + hash64, Verity, "", ""},
		{"root=UUID=x roothash=" + hash64, Verity, "", "/dev/mapper/root"},
		{"roothash=" + hash64 + " roothash=" + hash64, Verity, "", "once"},
		{"roothash=abcd", Verity, "", "64, 96 or 128"},
		{"roothash=" + strings.ToUpper(hash64), Verity, "", "lower-case"},
		{"xroothash=" + hash64, Verity, "", "no word"},
		{`foo="a roothash=` + hash64 + `"`, Verity, "", "no word"},
		{"roothash=" + hash64 + " systemd.verity=no", Verity, "", "takes dm-verity back"},
		{"roothash=" + hash64 + " systemd.verity-root-options=ignore-corruption", Verity, "", "takes dm-verity back"},
		{"usrhash=" + hash64, Verity, "", "/usr alone"},
		{"usrhash=" + hash64 + " root=tmpfs", Verity, "", ""},
		{"root=PARTUUID=1 ro", Verity, "", "root=PARTUUID=1"},
		{"ro", Verity, "", "no word"},
		{"ro", Initrd, "", ""},
		{"root=/dev/sda", Initrd, "", "besides the initrd"},
		{"composefs=" + hash64, Composefs, "", ""},
		{"composefs=?" + hash64, Composefs, "", "digest"},
		{"", Composefs, "", "no composefs="},
		{"dstack.rootfs_hash=" + hash64, Verity, "dstack.rootfs_hash", ""},
		{"dstack.rootfs_hash=1", Verity, "dstack.rootfs_hash", "digest"},
		{"a=" + hash64, Initrd, "a", "root_word"},
		{"ima_appraise=fix", IMA, "", "enforce"},
		{"ima_appraise=enforce", IMA, "", ""},
		{"root=/dev/sda", NotCovered, "", ""},
	} {
		l, err := Read(c.line)
		if err != nil {
			t.Fatal(err)
		}
		err = l.Covers(c.root, c.own)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, %s: %v, want %q", c.root, c.line, err, c.want)
		}
	}
}

// What the kernel reads a part of is refused (ATTACKS, V1).
func TestReadRefuses(t *testing.T) {
	for _, line := range []string{"evil\nroothash=" + hash64, "evil\r", "a\x00b", strings.Repeat("x", 2048), "\xff"} {
		if l, err := Read(line); err == nil {
			t.Errorf("%.20q: %v", line, l)
		}
	}
	if _, err := Read(strings.Repeat("x", 2047)); err != nil {
		t.Error(err)
	}
}

func TestOpens(t *testing.T) {
	l, err := Read("ro rd.break systemd.set-credential=x:y init=/sbin/init lockdown=integrity cloud-init=disabled lockdown=none rd.break ignition.x=1")
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Opens(); !slices.Equal(got, []string{"ignition.x", "lockdown", "rd.break", "systemd.set_credential"}) {
		t.Errorf("%q", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(cos)
	f.Add(`"a b"=c d="e f" -- x`)
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Read(text)
		if err != nil {
			return
		}
		for _, root := range Roots {
			l.Covers(root, "")
		}
		l.Opens()
		if strings.ContainsAny(text, "\n\x00") || len(l.Digests()) != 4 {
			t.Errorf("%q was read", text)
		}
	})
}

// Package guest answers: is an SNP guest as a policy wants it?
//
// It reads [snp] of a policy (cima-policy(5)), and holds a report of SEV-SNP against it:
// what the guest's owner allows the host, how the host is set, the level of the firmware,
// and who signed the launch. Measurements are [measured.NAME]'s, in package policy.
package guest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cima-project/cima/hw/verify/snp"
	"github.com/cima-project/cima/hw/verify/tables"
	"github.com/cima-project/cima/hw/verify/wanted"
)

// allowances are the bits of POLICY that let the host do something, by name (56860, Guest
// Policy). They must be named to be set.
var allowances = []bit{{16, "smt"}, {18, "migrate-ma"}, {19, "debug"}, {21, "cxl"}}

// demands are the bits of POLICY that ask more of the host. Each is free.
var demands = []bit{{20, "single-socket"}, {22, "aes-256-xts"}, {23, "rapl-off"}, {24, "ciphertext-hiding"}, {25, "page-swap-off"}}

// settings are the bits of PLATFORM_INFO that have a name.
var settings = []bit{{0, "smt"}, {1, "tsme"}, {2, "ecc"}, {3, "rapl-off"}, {4, "ciphertext-hiding"}, {5, "alias-check"}, {7, "tio"}}

type bit struct {
	at   int
	name string
}

// mustBeSet is the bit of POLICY that is always one; bits of the ABI's version are below it.
const (
	mustBeSet = 17
	abiBits   = 16
)

func nameList(of ...[]bit) (names []string) {
	for _, b := range slices.Concat(of...) {
		names = append(names, b.name)
	}
	return names
}

// set are the names of the bits that are set, and those without a name from a bit on.
func set(bits uint64, from int, of ...[]bit) (names, nameless []string) {
	for i := from; i < 64; i++ {
		if bits>>i&1 == 0 {
			continue
		}
		if at := slices.IndexFunc(slices.Concat(of...), func(b bit) bool { return b.at == i }); at >= 0 {
			names = append(names, slices.Concat(of...)[at].name)
		} else {
			nameless = append(nameless, fmt.Sprintf("bit %d", i))
		}
	}
	return names, nameless
}

// Rules are [snp].
type Rules struct {
	allow, require []string // of POLICY
	platform       []string // of PLATFORM_INFO: must be set
	vmpls          []string
	idKeys         []string
	authorKeys     []string
	minSVN         int64
	hostData       []string
	signers        []string
	chips          []string
	providers      []string
	levels         map[snp.Line]map[string]int64 // min_tcb; nil without one
	age            time.Duration                 // how old AMD's list may be; 0 for any
}

const (
	zeroWord = "zero"
	anyWord  = "any"
)

// defaults are the rules of a policy without [snp], and of none.
func defaults() *Rules {
	return &Rules{allow: []string{"smt"}, vmpls: []string{"0"}, hostData: []string{zeroWord}, signers: []string{"vcek", "vlek"}}
}

// hexOf wants n bytes in hex that are not zeros, or one of the words.
func hexOf(n int, words ...string) func(string) string {
	form := regexp.MustCompile(fmt.Sprintf(`^[0-9a-f]{%d}$`, 2*n))
	return func(s string) string {
		if slices.Contains(words, s) {
			return ""
		}
		if !form.MatchString(s) || strings.Trim(s, "0") == "" {
			return fmt.Sprintf("%d lower-case hex digits that are not all zeros%s", 2*n, orWords(words))
		}
		return ""
	}
}

func orWords(words []string) (text string) {
	for _, w := range words {
		text += fmt.Sprintf(", or %q", w)
	}
	return text
}

// Read reads [snp]. age is how old AMD's list of revocations may be, 0 for any.
func Read(t *tables.Table, age time.Duration) *Rules {
	r := defaults()
	r.age = age
	texts := func(to *[]string, key string, good func(string) string) {
		if _, there := t.Take(key); there {
			*to = t.Texts(key, good)
		}
	}
	texts(&r.allow, "allow", tables.OneOf("bit", nameList(allowances)))
	texts(&r.require, "require", tables.OneOf("bit", nameList(demands)))
	texts(&r.platform, "platform", tables.OneOf("bit", nameList(settings)))
	texts(&r.vmpls, "vmpl", tables.OneOf("number", []string{"0", "1", "2", "3"}))
	texts(&r.idKeys, "id_keys", hexOf(48, zeroWord))
	texts(&r.authorKeys, "author_keys", hexOf(48, zeroWord))
	texts(&r.hostData, "host_data", hexOf(32, zeroWord, anyWord))
	texts(&r.signers, "signers", tables.OneOf("key", []string{"vcek", "vlek"}))
	texts(&r.chips, "chips", hexOf(64))
	texts(&r.providers, "providers", tables.AnyText)
	if r.minSVN = t.Number("min_guest_svn"); r.minSVN > 0 && (len(r.idKeys) == 0 || slices.Contains(r.idKeys, zeroWord)) {
		t.Bad("min_guest_svn", "there with id_keys alone: GUEST_SVN is the word of who signed the ID block")
	}
	r.readLevels(t)
	return r
}

// readLevels reads min_tcb: for each line that counts, a minimum of each part.
func (r *Rules) readLevels(t *tables.Table) {
	all, there := t.One("min_tcb")
	if !there {
		return
	}
	all.Title = "[snp.min_tcb]"
	r.levels = make(map[snp.Line]map[string]int64)
	for _, line := range snp.Lines() {
		one, there := all.One(strings.ToLower(string(line)))
		if !there {
			continue
		}
		one.Title = "[snp.min_tcb." + strings.ToLower(string(line)) + "]"
		r.levels[line] = make(map[string]int64)
		for _, p := range line.Parts() {
			if _, there := one.Take(p.Name); !there {
				one.Bad(p.Name, "there: what isn't asked for may be anything")
			}
			if r.levels[line][p.Name] = one.Number(p.Name); r.levels[line][p.Name] > 255 {
				one.Bad(p.Name, "0 to 255")
			}
		}
		if slices.Max(slices.Collect(maps.Values(r.levels[line]))) == 0 {
			t.Bad("min_tcb."+strings.ToLower(string(line)), "above 0 in a part: zeros ask for nothing")
		}
		one.Done()
	}
	if len(r.levels) == 0 {
		t.Bad("min_tcb", "a minimum for one line or more: [snp.min_tcb.milan], genoa, turin")
	}
	all.Done()
}

func (r *Rules) orDefaults() *Rules {
	if r == nil {
		return defaults()
	}
	return r
}

// JudgeOpen says who else can read the guest's memory. open is in words what the report
// lets him do, whether the rules allow it or not.
func (r *Rules) JudgeOpen(a *snp.Report) (found wanted.Findings, open []string) {
	r = r.orDefaults()
	bits, _ := set(a.Policy, abiBits, allowances)
	if slices.Contains(bits, "debug") {
		found.Want(slices.Contains(r.allow, "debug"), "POLICY, debug", "0, or named in [snp] allow", "1")
		open = append(open, "the guest is under debug: its host can read and write its memory")
	}
	bound := strings.Trim(hex.EncodeToString(a.MigrationID[:]), "f") != ""
	if slices.Contains(bits, "migrate-ma") || bound {
		found.Want(slices.Contains(r.allow, "migrate-ma"), "POLICY, migration agent", "none, or named in [snp] allow", "allowed or bound")
		open = append(open, "a migration agent can have the guest's memory")
	}
	return found, open
}

// Judge holds a report and the certificate of its key against [snp], but what JudgeOpen and
// JudgeLevel judge.
func (r *Rules) Judge(a *snp.Attestation) (found wanted.Findings) {
	r = r.orDefaults()
	bits, nameless := set(a.Policy&^(1<<mustBeSet), abiBits, allowances, demands)
	over := slices.DeleteFunc(slices.Clone(bits), func(name string) bool {
		return slices.Contains(r.allow, name) || slices.Contains(nameList(demands), name)
	})
	found.Want(len(over)+len(nameless) == 0 && a.Policy>>mustBeSet&1 == 1, "POLICY", "of smt, debug, migrate-ma and cxl no more than "+tables.Or(r.allow),
		fmt.Sprintf("%#x (%s)", a.Policy, cmp.Or(strings.Join(append(bits, nameless...), ", "), "none")))
	for _, name := range r.require {
		found.Want(slices.Contains(bits, name), "POLICY, "+name, "1", number(slices.Contains(bits, name)))
	}
	host, _ := set(a.PlatformInfo, 0, settings)
	for _, name := range r.platform {
		found.Want(slices.Contains(host, name), "PLATFORM_INFO, "+name, "1", number(slices.Contains(host, name)))
	}
	found.Want(slices.Contains(r.vmpls, fmt.Sprint(a.VMPL)), "VMPL", tables.Or(r.vmpls), fmt.Sprint(a.VMPL))
	wantHex(&found, "HOST_DATA", r.hostData, a.HostData[:])
	wantHex(&found, "ID_KEY_DIGEST", r.idKeys, a.IDKeyDigest[:])
	wantHex(&found, "AUTHOR_KEY_DIGEST", r.authorKeys, a.AuthorDigest[:])
	if r.minSVN > 0 {
		found.Want(int64(a.GuestSVN) >= r.minSVN, "GUEST_SVN", fmt.Sprint("at least ", r.minSVN), fmt.Sprint(a.GuestSVN))
	}
	signer := "vcek"
	if a.Leaf.VLEK {
		signer = "vlek"
	}
	found.Want(slices.Contains(r.signers, signer), "key that signs", tables.Or(r.signers), signer)
	if r.chips != nil {
		wantHex(&found, "CHIP_ID", r.chips, a.ChipID[:])
	}
	if r.providers != nil {
		found.Want(slices.Contains(r.providers, a.Leaf.Provider), "provider of the VLEK", tables.Or(r.providers), a.Leaf.Provider)
	}
	return found
}

// Told are what is not as closed as it could be, where the rules do not speak of it.
func (r *Rules) Told(a *snp.Report) (words []string) {
	host, nameless := set(a.PlatformInfo, 0, settings)
	if slices.Contains(host, "smt") {
		words = append(words, "threads of one core run at once (SMT)")
	}
	if !slices.Contains(host, "alias-check") {
		words = append(words, "nobody checked that addresses have one memory (alias check)")
	}
	for _, one := range nameless {
		words = append(words, "PLATFORM_INFO has "+one+", which has no name")
	}
	return words
}

// JudgeLevel holds the four TCBs of a report against the minimum of its line, part by part.
// asked is false where the rules name no minimum of any line; where they do, each line that
// has none is refused.
func (r *Rules) JudgeLevel(a *snp.Report, line snp.Line) (found wanted.Findings, asked bool) {
	r = r.orDefaults()
	if r.levels == nil {
		return nil, false
	}
	least, named := r.levels[line]
	if !named {
		found.Want(false, "line of the processor", "one of [snp.min_tcb]", string(line))
		return found, true
	}
	for _, t := range []struct {
		name string
		tcb  snp.TCB
	}{{"REPORTED_TCB", a.ReportedTCB}, {"CURRENT_TCB", a.CurrentTCB}, {"COMMITTED_TCB", a.CommittedTCB}, {"LAUNCH_TCB", a.LaunchTCB}} {
		for _, p := range line.Parts() {
			found.Want(int64(p.Of(t.tcb)) >= least[p.Name], t.name+", "+p.Name, fmt.Sprint("at least ", least[p.Name]), fmt.Sprint(p.Of(t.tcb)))
		}
	}
	return found, true
}

// JudgeList holds the time at which AMD's list of revocations was issued against
// [freshness].
func (r *Rules) JudgeList(issued, at time.Time) (found wanted.Findings) {
	if r = r.orDefaults(); r.age > 0 {
		found.Want(at.Sub(issued) <= r.age, "age of the revocation list", "issued from "+day(at.Add(-r.age))+" on", day(issued))
	}
	return found
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// wantHex compares bytes with what a policy has; nil for anything.
func wantHex(found *wanted.Findings, what string, want []string, got []byte) {
	if want == nil || slices.Contains(want, anyWord) {
		return
	}
	text := word(got)
	found.Want(slices.Contains(want, text), what, tables.Or(want), text)
}

// word is how a policy writes bytes.
func word(b []byte) string {
	text := hex.EncodeToString(b)
	if strings.Trim(text, "0") == "" {
		return zeroWord
	}
	return text
}

func number(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// Unusual are the keys of [snp], with their values, that a report needs besides the
// defaults: what policy init writes.
func Unusual(a *snp.Report) (keys []string, values map[string][]string) {
	values = make(map[string][]string)
	add := func(key string, list ...string) { keys, values[key] = append(keys, key), list }
	if bits, _ := set(a.Policy, abiBits, allowances); !slices.Equal(bits, []string{"smt"}) && len(bits) > 0 {
		add("allow", bits...)
	}
	if a.VMPL != 0 {
		add("vmpl", fmt.Sprint(a.VMPL))
	}
	if a.HostData != [32]byte{} {
		add("host_data", word(a.HostData[:]))
	}
	if a.IDKeyDigest != [48]byte{} {
		add("id_keys", word(a.IDKeyDigest[:]))
	}
	if a.AuthorKey {
		add("author_keys", word(a.AuthorDigest[:]))
	}
	return keys, values
}

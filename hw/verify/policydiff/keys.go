package policydiff

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// meaning says how a key's values bear on what is trusted.
type meaning int

const (
	differs   meaning = iota // another value, another thing
	anyOf                    // each value is trusted; a key that is absent trusts the default
	limitedTo                // each value is trusted; a key that is absent trusts all
	noneOf                   // each value is refused
	higher                   // a higher value trusts more; absent: the least
	lower                    // a lower value trusts more; absent: the least
	ends                     // a later time, or a longer one, trusts more; absent: without end
	least                    // a lower value trusts more; absent: this line is not trusted, or nobody asks
	people                   // only people read it
	facts                    // match: each fact that is wanted trusts less
)

// meanings of the keys of policies, by table and key; a key that stands here without a
// table has that meaning everywhere. A key that is nowhere here is one of differs.
func meaningOf(table, key string) meaning {
	switch table + "." + key {
	case "tcb.allow", "tcb.provider_ids", "snp.id_keys", "snp.author_keys", "snp.chips", "snp.providers", "container.launch", "container.defaults", "container.boot", "container.execs", "container.image":
		return limitedTo
	case "tcb.collateral", "freshness.collateral", "freshness.nonce":
		return ends
	case "tcb.deny", "system.host_input", "measured.host_input", "vtpm.host_input", "snp.require", "snp.platform":
		return noneOf
	case "tcb.grace", "tcb.qe_grace":
		return higher
	case "tcb.min_date", "tcb.min_evaluation", "tcb.min_svn", "snp.min_guest_svn":
		return lower
	case "firmware.mrtd", "image.digests", "boot.firmware", "boot.system", "boot.measured", "measured.measurement", "boot.vtpm", "vtpm.paravisor", "snp.allow", "snp.vmpl",
		"snp.host_data", "snp.signers", "tcb.statuses", "container.source",
		"container.cgroup_owner", "td.service_tds", "td.vmid", "td.mrseam", "td.mrconfigid", "td.mrowner", "td.mrownerconfig",
		"td.devinfo", "power.allow", "power.allow_kinds", "host.units":
		return anyOf
	}
	if table == "snp" && strings.HasPrefix(key, "min_tcb.") {
		return least
	}
	switch key {
	case "name":
		return people
	case "waive":
		return anyOf
	case "demand":
		return noneOf
	case "from":
		return lower
	case "until":
		return ends
	case "match":
		return facts
	}
	return differs
}

// defaults are what a key of anyOf trusts where it is absent (cima-policy(5)).
func defaultOf(table, key string) []any {
	switch table + "." + key {
	case "tcb.statuses":
		return []any{"UpToDate"}
	case "container.source":
		return []any{"bundle", "engine"}
	case "container.cgroup_owner":
		return []any{int64(0)}
	case "td.mrconfigid", "td.mrowner", "td.mrownerconfig", "td.devinfo":
		return []any{"zero"}
	case "snp.allow":
		return []any{"smt"}
	case "snp.vmpl":
		return []any{"0"}
	case "snp.host_data":
		return []any{"zero"}
	case "snp.signers":
		return []any{"vcek", "vlek"}
	case "td.mrseam":
		return []any{"any of Intel's"}
	case "td.vmid":
		return []any{"0"}
	}
	return nil
}

// keys compares two tables, key by key.
func (d *differ) keys(where, table string, before, now map[string]any) {
	all := maps.Clone(before)
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, oldThere := before[key]
		new, newThere := now[key]
		if oldThere && newThere && same(old, new) {
			continue
		}
		switch m := meaningOf(table, key); m {
		case people:
			d.note(Words, where, "%s is %s, was %s", key, shown(new, newThere), shown(old, oldThere))
		case anyOf:
			d.list(where, key, orDefault(table, key, old, oldThere), orDefault(table, key, new, newThere), More, Less)
		case noneOf:
			d.list(where, key, refused(old), refused(new), Less, More)
		case limitedTo:
			d.limit(where, key, old, oldThere, new, newThere)
		case least:
			effect := Other
			if oldThere && newThere {
				effect = ordered(lower, old, oldThere, new, newThere)
			}
			d.note(effect, where, "%s is %s, was %s", key, shown(new, newThere), shown(old, oldThere))
		case higher, lower, ends:
			d.note(ordered(m, old, oldThere, new, newThere), where, "%s is %s, was %s", key, shown(new, newThere), shown(old, oldThere))
		case facts:
			d.facts(where, "match", object(old), object(new))
		default:
			d.note(Other, where, "%s is %s, was %s", key, shown(new, newThere), shown(old, oldThere))
		}
	}
}

// refused is a list of what stands in the way. "none" is nothing.
func refused(v any) []any {
	return slices.DeleteFunc(slices.Clone(list(v)), func(one any) bool { return one == "none" })
}

func orDefault(table, key string, v any, there bool) []any {
	if !there {
		return defaultOf(table, key)
	}
	return list(v)
}

// list tells each value that comes and goes.
func (d *differ) list(where, key string, before, now []any, come, gone Effect) {
	for _, v := range without(now, before) {
		d.note(come, where, "%s has %s now", key, spell(v))
	}
	for _, v := range without(before, now) {
		d.note(gone, where, "%s has %s no more", key, spell(v))
	}
}

// limit tells of a list without which everything is allowed.
func (d *differ) limit(where, key string, old any, oldThere bool, new any, newThere bool) {
	switch {
	case !oldThere:
		d.note(Less, where, "%s must be %s now; anything was allowed", key, orWords(list(new)))
	case !newThere:
		d.note(More, where, "%s may be anything now; it had to be %s", key, orWords(list(old)))
	default:
		d.list(where, key, list(old), list(new), More, Less)
	}
}

func orWords(values []any) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = spell(v)
	}
	return strings.Join(words, " or ")
}

func shown(v any, there bool) string {
	if !there {
		return "absent"
	}
	return spell(v)
}

// ordered tells which of two values trusts more.
func ordered(m meaning, old any, oldThere bool, new any, newThere bool) Effect {
	if !oldThere || !newThere {
		// "grace", "from": absent is the least. "until", "collateral": absent is without end. "min_…": absent asks nothing.
		grows := newThere
		if m != higher {
			grows = oldThere
		}
		if grows {
			return More
		}
		return Less
	}
	c, ok := compare(old, new)
	switch {
	case !ok || c == 0:
		return Other
	case (c < 0) == (m != lower): // the new one is larger
		return More
	}
	return Less
}

// compare compares times, numbers, durations ("30d") and SVNs in hex.
func compare(a, b any) (int, bool) {
	switch a := a.(type) {
	case time.Time:
		if b, ok := b.(time.Time); ok {
			return a.Compare(b), true
		}
	case int64:
		if b, ok := b.(int64); ok {
			return int(min(max(a-b, -1), 1)), true
		}
	case string:
		b, _ := b.(string)
		var m, n float64
		var unitA, unitB string
		if _, err := fmt.Sscanf(a+" "+b, "%f%1s %f%1s", &m, &unitA, &n, &unitB); err != nil {
			return 0, false
		}
		hours := map[string]float64{"s": 1. / 3600, "m": 1. / 60, "h": 1, "d": 24}
		if hours[unitA] == 0 || hours[unitB] == 0 {
			return 0, false
		}
		m, n = m*hours[unitA], n*hours[unitB]
		switch {
		case m < n:
			return -1, true
		case m > n:
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// facts compares what match wants, fact by fact. What is one of the comparisons of
// cima-policy(5), MATCH, is compared by its values.
func (d *differ) facts(where, at string, before, now map[string]any) {
	all := maps.Clone(before)
	if all == nil {
		all = make(map[string]any)
	}
	maps.Copy(all, now)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, oldThere := before[key]
		new, newThere := now[key]
		path := at + "." + key
		oldTable, oldIs := old.(map[string]any)
		newTable, newIs := new.(map[string]any)
		switch {
		case oldThere && newThere && same(old, new):
		case !oldThere:
			d.note(Less, where, "%s must be %s now", path, spell(new))
		case !newThere:
			d.note(More, where, "%s may be anything now; it had to be %s", path, spell(old))
		case isChoice(old) && isChoice(new):
			d.list(where, path, choices(old), choices(new), More, Less)
		case oldIs && newIs && !compares(oldTable) && !compares(newTable):
			d.facts(where, path, oldTable, newTable)
		case oldIs && newIs && atMost(oldTable, newTable) != 0:
			d.note(map[bool]Effect{true: More, false: Less}[atMost(oldTable, newTable) < 0], where, "%s is %s, was %s", path, spell(new), spell(old))
		default:
			d.note(Other, where, "%s is %s, was %s", path, spell(new), spell(old))
		}
	}
}

// compares reports whether a table is a comparison, and not a level of names.
func compares(t map[string]any) bool {
	if len(t) != 1 {
		return false
	}
	for key := range t {
		switch key {
		case "any", "prefix", "at_most", "absent", "only", "equal":
			return true
		}
	}
	return false
}

// isChoice reports whether a value is met by one of a list: a scalar, or any, or only.
func isChoice(v any) bool {
	t, ok := v.(map[string]any)
	if !ok {
		_, isList := v.([]any)
		return !isList
	}
	_, any := t["any"]
	return len(t) == 1 && any
}

func choices(v any) []any {
	if t, ok := v.(map[string]any); ok {
		return list(t["any"])
	}
	return []any{v}
}

// atMost compares two limits: negative where the new one is higher; 0 where there are none.
func atMost(old, new map[string]any) int {
	a, aThere := old["at_most"]
	b, bThere := new["at_most"]
	if !aThere || !bThere {
		return 0
	}
	c, _ := compare(a, b)
	return c
}

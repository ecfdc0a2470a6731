#!/usr/bin/env python3
"""Compares the programs with goldens: is everything byte for byte as it was?

It links nothing of ours: Python's standard library, the programs as black boxes,
and util-linux (unshare, mount). See README.md.
"""

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import interned
import world

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "CIMA_GOLDEN_INSIDE"
GROUPS = {  # and the file of each
    "launches": "launches", "convert": "offline", "verify": "offline", "replay": "offline", "policies": "offline", "command line": "offline",
    "configurations": "offline", "events": "live", "log on disk": "live", "claims": "live", "evidence": "live", "replies": "live",
    "errors": "live", "cimactl and the daemon": "live", "powers": "live",
}
SHOWN = 5  # differences that are printed for each group


class Golden:
    """The results, and the expected ones."""

    def __init__(self):
        self.found = {g: {} for g in GROUPS}
        self.texts = {}
        self.said = {(file, "") for file in GROUPS.values()}

    def add(self, group, name, strict, texts=None):
        strict = structured(strict)
        if name in self.found[group]:
            name = next(f"{name} ({n})" for n in range(2, 1000) if f"{name} ({n})" not in self.found[group])
        self.found[group][name] = strict
        texts = [t for t in flat(texts) if (GROUPS[group], t) not in self.said]
        if texts:  # each text is stored at its first occurrence
            self.said |= {(GROUPS[group], t) for t in texts}
            self.texts[f"{group}: {name}"] = texts

    def launches(self):
        if not hasattr(self, "rows"):
            self.rows = interned.read(HERE + "/configs.jsonl")
        return self.rows


def structured(value):
    """JSON texts in a value as parsed JSON, if writing that gives the same bytes."""
    if isinstance(value, list):
        return [structured(v) for v in value]
    if isinstance(value, str) and value.startswith("{"):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return read if interned.dumps(read) == value else value
    return value


def flat(value):
    return [t for v in value or [] for t in (flat(v) if isinstance(v, list) else [v])]


def write(found, texts):
    files = {}
    for group, rows in found.items():
        files.setdefault(GROUPS[group], []).extend([group, name, value] for name, value in rows.items())
    for file, rows in files.items():
        interned.write(f"{HERE}/{file}.jsonl", rows, least=60)
    write_texts(texts)


def write_texts(texts):
    with open(HERE + "/errors.jsonl", "w", encoding="utf-8") as f:
        f.writelines(interned.dumps([name, *value]) + "\n" for name, value in texts.items())


def read():
    want = {g: {} for g in GROUPS}
    for file in dict.fromkeys(GROUPS.values()):
        for group, name, value in interned.read(f"{HERE}/{file}.jsonl"):
            want[group][name] = value
    with open(HERE + "/errors.jsonl", encoding="utf-8") as f:
        return want, {name: value for name, *value in map(json.loads, f)}


def accepted(pattern, found, want):
    """The goldens, with what differs and is named by the pattern as it was found; and how many rows of each group that was."""
    count = {}
    for group in GROUPS:
        for name in {**want[group], **found[group]}:
            was, now = want[group].get(name), found[group].get(name)
            if not pattern.search(f"{group}: {name}") or interned.dumps(was) == interned.dumps(now) and (name in want[group]) == (name in found[group]):
                continue
            count[group] = count.get(group, 0) + 1
            if name in found[group]:
                want[group][name] = now
            else:
                del want[group][name]
        # In the order in which they are found: errors.jsonl names first occurrences.
        want[group] = {name: want[group][name] for name in {**found[group], **want[group]} if name in want[group]}
    return want, count


def compare(group, found, want):
    """Prints the group's line and its first differences; returns their number."""
    failed = []
    for name in {**want, **found}:
        if name not in found:
            failed.append((name, want[name], "MISSING"))
        elif name not in want:
            failed.append((name, "NOT IN THE GOLDENS", found[name]))
        elif interned.dumps(found[name]) != interned.dumps(want[name]):
            failed.append((name, want[name], found[name]))
    passed = len({**want, **found}) - len(failed)
    print(f"{group}: {passed} as they were" + (f", {len(failed)} DIFFER" if failed else ""))
    for name, was, now in failed[:SHOWN]:
        print(f"  {name}")
        for line in small_diff(was, now):
            print(f"    {line}")
    if len(failed) > SHOWN:
        print(f"  and {len(failed) - SHOWN} more")
    return passed, len(failed)


def pieces(value):
    """A value in lines, so that a difference is visible."""
    if isinstance(value, list):
        return [p for v in value for p in pieces(v)]
    text = value if isinstance(value, str) else interned.dumps(value)
    out = []
    for line in text.split("\n"):
        for part in line.replace(',"', ',\n"').split("\n"):
            out += [part[i:i + 160] for i in range(0, len(part), 160)] or [""]
    return out


def small_diff(was, now):
    lines = [x for x in difflib.unified_diff(pieces(was), pieces(now), "golden", "found", lineterm="", n=1) if not x.startswith(("---", "+++", "@@"))]
    return lines[:12] + ([f"… {len(lines) - 12} lines more"] if len(lines) > 12 else []) or [f"- {was!r}"[:200], f"+ {now!r}"[:200]]


def collect(golden, sim, ctl, cimad, only):
    programs = {"cimad-sim": sim, "cimactl": ctl, **({"cimad": cimad} if os.path.exists(cimad) else {})}
    from live import Live
    from offline import Offline
    kept = {}
    live = None
    if only != "offline":
        began = time.time()
        live = Live(golden, sim, ctl)
        live.run()
        kept = live.kept
        print(f"(live: {time.time() - began:.0f} s)", file=sys.stderr)
    return programs, kept, Offline


def keep_evidence(kept):
    """Stores evidence of the daemon that was run; later versions must accept it."""
    os.makedirs(HERE + "/evidence", exist_ok=True)
    names = {"host": "hostevidence", "container": "containerevidence", "host-shared": "hostevidence, shared", "container-shared": "containerevidence, shared",
             "executions": "executions", "all": "everything shown, first", "nothing": "nothing shown, first"}
    for name, key in names.items():
        raw = kept[key]
        at = raw.index('"result":') + len('"result":')
        with open(f"{HERE}/evidence/{name}.json", "w", encoding="utf-8") as f:
            f.write(raw[at:-1] + "\n")
    for name, key in {"root": "root", "executions": "executions, root", "all": "everything shown, root", "nothing": "nothing shown, root"}.items():
        with open(f"{HERE}/evidence/{name}.pem", "w") as f:
            f.write(kept[key])


def check(a, daemon, client):
    """Collects and compares, in the namespaces; returns how many passed and failed."""
    world.inside()
    golden = Golden()
    programs, kept, offline = collect(golden, daemon + "/cimad-sim", client + "/cimactl", client + "/cimad", a.only)
    if a.record or a.keep_evidence:
        keep_evidence(kept)
    if a.only != "live":
        began = time.time()
        offline(golden, programs).run()
        print(f"(offline: {time.time() - began:.0f} s)", file=sys.stderr)
    if a.record:
        write(golden.found, golden.texts)
        print("recorded:", ", ".join(f"{g} {len(rows)}" for g, rows in golden.found.items()))
        return 0, 0
    want, texts = read()
    if a.accept:
        want, count = accepted(re.compile(a.accept), golden.found, want)
        write(want, golden.texts)
        print("accepted:", ", ".join(f"{g} {n}" for g, n in count.items()) or "nothing")
        texts = golden.texts
    passed = failed = 0
    groups = [g for g in GROUPS if not a.only or (GROUPS[g] == "live") == (a.only == "live")]
    for group in groups:
        n, bad = compare(group, golden.found[group], want[group])
        passed, failed = passed + n, failed + bad
    if daemon != client:
        return passed, failed  # texts for people differ from program to program
    if a.update_texts:
        write_texts(golden.texts)
        print(f"texts: {len(golden.texts)} written")
        return passed, failed
    texts = {name: t for name, t in texts.items() if name.split(": ")[0] in groups}
    n, bad = compare("texts", golden.texts, texts)
    return passed + n, failed + bad


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--bin", default="bin", help="directory of cimad-sim, cimactl and cimad")
    p.add_argument("--old", help="directory of other programs: each daemon is asked by the other's client, and appraised by it")
    p.add_argument("--only", choices=["offline", "live"])
    p.add_argument("--update-texts", action="store_true", help="write errors.jsonl, what is said to people, anew; nothing else")
    p.add_argument("--accept", metavar="PATTERN", help="write anew the rows \"GROUP: NAME\" that differ and match, and what is said to people")
    p.add_argument("--keep-evidence", action="store_true", help="store evidence of this daemon in place of what is appraised ever after")
    p.add_argument("--record", action="store_true", help="write all goldens anew but configs.jsonl")
    a = p.parse_args()
    if a.only and (a.record or a.update_texts or a.accept or a.keep_evidence):
        p.error("what is written is written whole: without --only")
    if INSIDE in os.environ:
        passed, failed = check(a, *json.loads(os.environ[INSIDE]))
        with open(os.environ[INSIDE + "_COUNTS"], "w") as f:
            json.dump([passed, failed], f)
        return 0
    if os.geteuid() != 0:
        sys.exit("golden must run as root: it puts callers into cgroups and namespaces")
    new = os.path.abspath(a.bin)
    pairs = {"": (new, new)}
    if a.old:
        old = os.path.abspath(a.old)
        pairs = {"the old daemon, the new client": (old, new), "the new daemon, the old client": (new, old)}
    passed = failed = 0
    for title, pair in pairs.items():
        if title:
            print(title + ":", flush=True)
        parent = f"cima.golden.{os.urandom(4).hex()}.slice"
        with tempfile.NamedTemporaryFile("r") as counts:
            code = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, os.path.abspath(__file__),
                                   *sys.argv[1:]], env={**os.environ, INSIDE: json.dumps(pair), INSIDE + "_COUNTS": counts.name, world.PARENT: parent}).returncode
            world.remove_parent(parent)
            n, bad = json.load(counts) if code == 0 else (0, 1)  # the run printed the reason
        passed, failed = passed + n, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

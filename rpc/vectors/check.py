#!/usr/bin/env python3
"""check answers: is cima-evidence(7) enough to check a bundle by?

It uses what that page says and nothing else, shares no code with CIMA, and needs only
Python 3.9. It recomputes REPORTDATA, the registers, the digests of the launch and
the agent's signature. It does not verify the quote's own signature and chain:
cimactl verify does.

    check.py BUNDLE...     checks bundles, one line for each; 0 if all agree
    check.py --vectors     checks the vectors in its directory
"""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

import ed25519
import ima
from strict_json import Malformed, Parser, canonical


class Differs(Exception):
    """Quote, claims and logs contradict each other."""


class Signature(Differs):
    """They agree, but the agent's signature is wrong."""


def only(value, must, may=()):
    """Checks that all required members are there, and no unknown ones."""
    if not isinstance(value, dict) or not set(must) <= set(value) <= set(must) | set(may):
        raise Malformed(f"members {sorted(value) if isinstance(value, dict) else value} instead of {sorted(must)}")


def data(text):
    try:
        value = base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise Malformed("must be base64") from None
    if base64.b64encode(value).decode() != text:
        raise Malformed("must be base64 in its standard spelling")
    return value


def digest(text):
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{96}", text):
        raise Malformed("must be a SHA-384 digest in lower-case hex")
    return bytes.fromhex(text)


# The arithmetic of registers.

ZERO = bytes(48)


def sha384(data):
    return hashlib.sha384(data).digest()


def extend(register, value):
    return sha384(register + value)


def little(data, at, size):
    if at + size > len(data):
        raise Malformed("cut off")
    return int.from_bytes(data[at : at + size], "little")


def quote_body(quote):
    """The TD report in a quote, and no bytes after the quote."""
    version = little(quote, 0, 2)
    if version == 4:
        start, size = 48, 584
    elif version == 5:
        start, size = 54, little(quote, 50, 4)
    else:
        raise Malformed(f"unknown version {version} of a quote")
    signed = start + size
    if signed + 4 + little(quote, signed, 4) != len(quote):
        raise Malformed("the quote must end where its length says")
    return quote[start : start + size]


def boot_events(log):
    """(measurement register, type, SHA-384 digest) of each event of a CCEL."""
    at = 32 + little(log, 28, 4)  # the header, a TCG_PCClientPCREvent
    sizes = {}
    count = little(log, 32 + 24, 4)
    for i in range(count):
        sizes[little(log, 60 + 4 * i, 2)] = little(log, 62 + 4 * i, 2)
    while at < len(log):
        register, kind, digests = (little(log, at + 4 * i, 4) for i in range(3))
        at, found = at + 12, None
        for _ in range(digests):
            algorithm = little(log, at, 2)
            if algorithm not in sizes:
                raise Malformed(f"an event has a digest of the unknown algorithm {algorithm:#x}")
            if algorithm == 0x0C:
                found = log[at + 2 : at + 2 + sizes[algorithm]]
            at += 2 + sizes[algorithm]
        at += 4 + little(log, at, 4)
        yield register, kind, found
    if at != len(log):
        raise Malformed("the boot log is cut off")


def replay_boot(log):
    registers = [ZERO] * 5
    for register, kind, value in boot_events(log):
        if kind != 3:  # EV_NO_ACTION
            if not 0 <= register <= 4 or value is None:
                raise Malformed("a boot event must have a register and a SHA-384 digest")
            registers[register] = extend(registers[register], value)
    if registers[4] != ZERO:
        raise Differs("the boot log must not extend RTMR3")
    return registers[1:4]


def replay_os(logs, rtmr2):
    """RTMR2 after the kernel's extends: IMA's lines, and digests of hidden lines."""
    if not isinstance(logs, list) or not logs:
        raise Malformed("an empty os_logs must be left out")
    before = None
    for log in logs:
        only(log, ["register", "format", "entries"])
        entries, kind = data(log["entries"]), log["format"]
        if log["register"] != "rtmr2" or not entries or kind == before:
            raise Malformed("runs of os_logs must be of rtmr2, not empty, and of alternating kinds")
        if kind == "ima-digests" and len(entries) % 48 == 0:
            digests = [entries[at : at + 48] for at in range(0, len(entries), 48)]
        elif kind == "ima-ascii" and entries.endswith(b"\n"):
            digests = [ima.line(text) for text in entries[:-1].split(b"\n")]
        else:
            raise Malformed(f"os_logs: no {kind}")
        for value in digests:
            rtmr2 = extend(rtmr2, value)
        before = kind
    return rtmr2


def shared_report_data(shared, own):
    """REPORTDATA of a quote that others share: over the root of a Merkle tree."""
    only(shared, ["size", "index", "path"])
    size, i, path = shared["size"], shared["index"], [digest(text) for text in shared["path"]]
    if type(size) is not int or type(i) is not int or not 1 <= size <= 4096 or not 0 <= i < 4096 or len(path) > 12:
        raise Malformed("shared must be within its bounds")
    if i >= size:
        raise Differs("shared.index must be a leaf of the tree")
    value, n = sha384(b"\0" + own), size
    while n > 1:
        if i % 2 or i != n - 1:
            if not path:
                raise Differs("shared.path ends before the root")
            sibling = path.pop(0)
            value = sha384(b"\1" + (sibling + value if i % 2 else value + sibling))
        i, n = i // 2, (n + 1) // 2
    if path:
        raise Differs("shared.path leads beyond the root")
    profile = "https://github.com/cima-project/cima/shared/v1"
    return hashlib.sha512(canonical({"profile": profile, "root": value.hex(), "size": size}).encode()).digest()


# Events of the runtime log.

PUBLIC = ("start", "policy", "seal", "system", "power", "missed", "ima")
OWN = ("launch", "mounted", "image", "exec", "extend", "exit")


# What a launch may say. Anything else could mean anything.

LAUNCH = ("asked", "defaults", "limits", "image_config", "entrypoint", "pod", "asked_sha384", "defaults_sha384")
ASKED = """arguments working_directory terminal user environment capabilities no_new_privileges seccomp apparmor selinux
    namespaces mounts devices device_rules all_devices sysctls root_read_only unmasked writable_paths hooks annotations
    labels hostname domainname members unknown""".split()
DEFAULTS = """capabilities seccomp umask apparmor selinux environment mounts sysctls device_rules masked_paths
    read_only_paths annotations namespaces hostname""".split()
EARLIER = """arguments environment working_directory terminal user capabilities no_new_privileges seccomp apparmor selinux
    namespaces mounts all_devices devices device_rules sysctls root_read_only masked_paths read_only_paths hooks labels
    annotations entrypoint whole""".split()


def launch_part(launch, name, members):
    """The digest of asked or defaults, which the event shows or has in their place."""
    if (name in launch) == (name + "_sha384" in launch):
        raise Differs(f"a launch must have {name} or its digest")
    if name not in launch:
        return digest(launch[name + "_sha384"])
    if not isinstance(launch[name], dict) or not set(launch[name]) <= set(members):
        raise Differs(f"{name} has members that no reader knows")
    return sha384(canonical(launch[name]).encode())


def launch_digests(launch, image):
    """Launch digest and defaults digest; nothing where there is none."""
    if {"user", "capabilities"} <= set(launch) <= {"source", "cgroup_owner", *EARLIER}:
        return b"", b""  # logged by a daemon of profile v1
    if not {"source", "cgroup_owner"} <= set(launch) <= {"source", "cgroup_owner", *LAUNCH}:
        raise Differs("a launch has members that no reader knows")
    if not set(image) <= {"reference", "digest", "manifest", "layers", "absent"}:
        raise Differs("an image has members that no reader knows")
    if launch["source"] not in ("bundle", "engine", "user", "none"):
        raise Differs("unknown source of a launch")
    if "limits" in launch and "asked" not in launch:
        raise Differs("limits without what was asked for")
    config = launch.get("image_config", "")
    if "image_config" in launch and not re.fullmatch("sha256:[0-9a-f]{64}", config):
        raise Differs("image_config must be a SHA-256 digest")
    if not {"path"} <= set(launch.get("entrypoint", {"path": ""})) <= {"path", "sha384"}:
        raise Differs("entrypoint has members that no reader knows")
    pod = launch.get("pod", {"name": ""})
    if not isinstance(pod, dict) or not pod or not set(pod) <= {"name", "namespace", "uid", "container"}:
        raise Differs("a pod has members that no reader knows, or none")
    if config and image.get("digest", config) != config:
        raise Differs("image_config must be the digest in the image event")
    of = {"cgroup_owner": launch["cgroup_owner"], "source": launch["source"]}
    if config or "digest" in image:
        of["image"] = {"config": config or image["digest"]}
    elif "manifest" in image:
        of["image"] = {"manifest": image["manifest"]}
    else:
        of["image"] = {"absent": image.get("absent", "")}
    defaults = b""
    if launch["source"] != "none":
        of["asked"] = launch_part(launch, "asked", ASKED).hex()
        defaults = launch_part(launch, "defaults", DEFAULTS)
    elif len(launch) > 2:
        raise Differs("a launch of which nothing is known must have no facts")
    return sha384(canonical(of).encode()), defaults


def mounted(body):
    """Where mounts lead, or the digest of a list that is too large."""
    if set(body) == {"mounts_sha384"}:
        digest(body["mounts_sha384"])
    elif set(body) != {"mounts"} or not body["mounts"] or any(set(m) != {"destination", "place"} for m in body["mounts"]):
        raise Differs("a mounted event must have mounts or their digest")


def event(raw):
    if little(raw, 0, 4) != 0x4141454C or little(raw, 4, 4) != len(raw) - 8:
        raise Malformed("must be an AAEL event")
    words = raw[8:].decode().split(" ", 2)
    if len(words) != 3 or words[0] != "cima" or words[1] not in PUBLIC + OWN:
        raise Malformed(f"event {words[:2]}")
    content = Parser(words[2], any_names=True).whole()
    if canonical(content) != words[2]:
        raise Malformed("an event's content must be in JCS form")
    operation = words[1]
    only(content, (["measured"] if operation != "exit" else []) + ([] if operation in PUBLIC else ["container", "salt"]))
    if operation != "exit":
        only(content["measured"], [operation])
    if operation not in PUBLIC and len(data(content["salt"])) != 16:
        raise Malformed("a salt must have 16 bytes")
    return operation, content


def runtime_log(entries):
    """(digest, operation, content) of each event; None, None if only the digest is shown."""
    events, run = [], False
    for entry in entries:
        if not isinstance(entry, dict) or len(entry) != 1:
            raise Malformed("an entry of the runtime log must have one member")
        if "event" in entry:
            raw = data(entry["event"])
            events.append((sha384(raw), *event(raw)))
        else:
            only(entry, ["digests"])
            several = data(entry["digests"])
            if run or not several or len(several) % 48:
                raise Malformed("a run of digests must be one entry of n x 48 bytes")
            events += [(several[at : at + 48], None, None) for at in range(0, len(several), 48)]
        run = "digests" in entry
    return events


def replay_log(events, count, owner, whole=False):
    found = {"rtmr3": ZERO, "register": ZERO, "public": ZERO, "container": ZERO, "launch": {}, "key": b""}
    for position, (value, operation, content) in enumerate(events):
        found["rtmr3"] = extend(found["rtmr3"], value)
        if operation in OWN and content["container"] != owner and not whole:
            raise Differs(f"event {position} must not be of another container")
        if position >= count:
            continue
        found["register"] = found["rtmr3"]
        if operation == "start":
            found["key"] = data(content["measured"]["start"]["agent_key"])
        if operation is None or operation in OWN and content["container"] != owner:
            continue
        if operation == "exit":
            found["launch"] = {}  # the instance is over
            continue
        measured = sha384(canonical(content["measured"]).encode())
        if operation in PUBLIC:
            found["public"] = extend(found["public"], measured)
            continue
        if operation == "launch":
            found["container"], found["launch"] = ZERO, {}
        elif not found["launch"]:
            continue  # of an instance before, whose launch is hidden
        elif operation == "image" and "image" in found["launch"]:
            raise Differs("an instance must have one image")
        elif operation == "mounted":
            mounted(content["measured"]["mounted"])
        found["container"] = extend(found["container"], measured)
        found["launch"].update(content["measured"])
    return found


def check(text):
    """Recomputes the claims of a bundle, and returns them by name."""
    bundle = Parser(text).whole()
    members = ["profile", "tee", "quote", "claims", "agent_signature", "boot_log", "runtime_log"]
    only(bundle, members, ["os_logs", "shared"])
    claims = bundle["claims"]
    if bundle["profile"] != "https://github.com/cima-project/cima/evidence/v2" or bundle["tee"] != "tdx":
        raise Malformed("unknown profile or hardware of evidence")
    if claims.get("profile") != "https://github.com/cima-project/cima/claims/v2":
        raise Malformed("unknown profile of claims")
    if ("container" in claims) == ("host" in claims):
        raise Malformed("claims must be a container's or the host's")
    body = quote_body(data(bundle["quote"]))
    rtmr = [body[328 + 48 * i : 376 + 48 * i] for i in range(4)]
    own = report_data = hashlib.sha512(canonical(claims).encode()).digest()
    if "shared" in bundle:
        report_data = shared_report_data(bundle["shared"], own)
    about, log, boot_log = claims.get("container"), claims["log"], data(bundle["boot_log"])
    booted = replay_boot(boot_log)
    if "os_logs" in bundle:
        booted[2] = replay_os(bundle["os_logs"], booted[2])
    events = runtime_log(bundle["runtime_log"])
    owner = about["id"] if about else None
    private = log.get("view") == "private"
    found = replay_log(events, log["count"], owner, log.get("view") == "whole")
    expected = [
        ("REPORTDATA", body[520:584], report_data),
        ("boot_log", digest(claims["boot_log"]), sha384(boot_log)),
        *((f"RTMR{i}", rtmr[i], value) for i, value in enumerate(booted)),
        ("log.public", digest(log["public"]), found["public"]),
    ]
    if "os_logs" in claims:
        os_logs = sha384(canonical(bundle.get("os_logs", [])).encode())
        expected.append(("os_logs", digest(claims["os_logs"]), os_logs))
    if not private:
        expected.append(("log.register", digest(log["register"]), found["register"]))
    elif len(events) > log["count"] or any(operation is None for _, operation, _ in events):
        raise Differs("a private log must show its own and public events alone")
    if log["anchor"] not in ("rtmr3", "report-data"):
        raise Differs("unknown anchor")
    if log["anchor"] == "report-data" and len(events) > log["count"]:
        raise Differs("no register covers the events after the claims")
    if log["anchor"] == "rtmr3" and not private:
        expected.append(("RTMR3", rtmr[3], found["rtmr3"]))
    if not 0 < log["count"] <= (log["count"] if private else len(events)) or not events or events[0][1] != "start":
        raise Differs("the log must begin with a start and have as many events as its count")
    if about:
        launch = found["launch"]
        if not {"image", "launch"} <= set(launch):
            raise Differs("the log must show launch and image of the instance that runs")
        for name, said, logged in (
            ("image", about.get("image", ""), launch["image"].get("reference", "")),
            ("image_digest", about.get("image_digest", ""), launch["image"].get("digest", "")),
            ("cgroup_owner", about["assurance"]["cgroup_owner"], launch["launch"].get("cgroup_owner")),
            ("pod", about.get("pod", {}), launch["launch"].get("pod", {})),
        ):
            if said != logged:
                raise Differs(f"{name} is {said!a}, the log has {logged!a}")
        launch_digest, defaults_digest = launch_digests(launch["launch"], launch["image"])
        said = {name: digest(about[name]) if name in about else b"" for name in ("launch_digest", "defaults_digest")}
        expected.append(("container.register", digest(about["register"]), found["container"]))
        expected.append(("launch_digest", said["launch_digest"], launch_digest))
        expected.append(("defaults_digest", said["defaults_digest"], defaults_digest))
    for name, said, recomputed in expected:
        if said != recomputed:
            raise Differs(f"{name} is {said.hex()[:16]}..., recomputed {recomputed.hex()[:16]}...")
    if len(found["key"]) != 32 or sha384(found["key"]) != digest(claims["agent"]):
        raise Differs("the last start event must have the key of claims.agent")
    if not ed25519.verify(found["key"], b"cima-agent-v1" + own, data(bundle["agent_signature"])):
        raise Signature("the agent's signature is wrong")
    result = {"report_data": report_data, "rtmr3": found["rtmr3"], "register": found["register"], "public": found["public"]}
    if about:
        result.update(container=found["container"], launch_digest=launch_digest, defaults_digest=defaults_digest)
    return {name: value.hex() for name, value in result.items() if value} | {"nonce": data(claims["nonce"]).hex()}


def judged(path):
    """agrees, differs, signature or malformed; why; what was recomputed."""
    try:
        return "agrees", "", check(path.read_bytes().decode())
    except (Malformed, UnicodeDecodeError, KeyError, TypeError, RecursionError) as e:
        return "malformed", f"{type(e).__name__}: {e}", {}
    except Signature as e:
        return "signature", str(e), {}
    except Differs as e:
        return "differs", str(e), {}


def vectors(here):
    bad = 0
    for vector in json.loads((here / "bundles.json").read_text()):
        word, why, found = judged(here / vector["file"])
        wrong = [name for name in found if found[name] != vector.get(name)]
        good = word == vector["expect"] and not wrong
        bad += not good
        print(f"{'ok ' if good else 'BAD'} {vector['file']}: {word}{': ' + why if why else ''}{' ' + str(wrong) if wrong else ''}")
    return bad


def launches(here):
    bad = 0
    for vector in json.loads((here / "launches.json").read_text()):
        names = ("launch_digest", "defaults_digest")
        found = [d.hex() or None for d in launch_digests(vector["launch"], vector["image"])]
        good = found == [vector.get(name) for name in names]
        bad += not good
        print(f"{'ok ' if good else 'BAD'} launch: {vector['about']}")
    return bad


def texts(here):
    bad = 0
    for vector in json.loads((here / "texts.json").read_text()):
        try:
            found = canonical(Parser(vector["text"]).whole())
        except Malformed:
            found = None
        good = found == vector.get("form")
        bad += not good
        print(f"{'ok ' if good else 'BAD'} text: {vector['about']}")
    return bad


def main():
    arguments = sys.argv[1:]
    if arguments == ["--vectors"]:
        here = Path(__file__).resolve().parent
        return 1 if vectors(here) + launches(here) + texts(here) else 0
    words = []
    for name in arguments:
        word, why, found = judged(Path(name))
        words.append(word)
        print(f"{name}: {word}{': ' + why if why else ''}", json.dumps(found) if found else "")
    return 0 if words and set(words) == {"agrees"} else 1


if __name__ == "__main__":
    sys.exit(main())

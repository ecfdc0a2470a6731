"""What the daemon writes and answers: events, claims, evidence, replies and errors."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess

import masks
import world
from world import Caller, Cgroup, Container, Daemon, bundle, until

NONCE = base64.b64encode(b"a nonce of the goldens, 32 bytes").decode()
NONCE_HEX = base64.b64decode(NONCE).hex()
DATA = base64.b64encode("bound: <&> ☃".encode()).decode()

CONFIG = f"""
[gate]
runtimes = ["{world.RUNTIME}"]
deadline = "60s"
[launch]
labels = ["golden.label"]
image_deadline = "4s"
[engines]
podman = ""
[ima]
interval = "20ms"
[limits]
requests_per_second = 1e6
requests_burst = 1000000
quotes_per_minute = 1e6
quotes_burst = 1000000
register_timeout = "60s"
quote_timeout = "60s"
"""
MAIN = CONFIG + f"""
[[system]]
path = "{world.SERVICE}"
arguments = true
[[access]]
image = "docker.io/golden/*"
allow = ["ExtendMeasurement"]
[[access]]
label = "golden.label=no report"
deny = ["GetCCReport"]
[[access]]
unit = "golden.*"
deny = ["ExtendMeasurement"]
"""

MASKS = masks.rules(
    ("salt", "<salt>"), ("agent_key", "<agent key>"), ("executable", "<executable>"), ("boot_id", "<boot id>"),
    ("version", "<version>"), ("quote|cc_report", "<quote>"), ("agent_signature", "<signature>"), ("agent", "<agent>"),
    (r"log\.register|public|rtmr3", "<register>"), ("rtmr3_digest", "<digest>"),
    ("uptime_s|retry_after_ms", "<number>"), (r"shared\.path\.#", "<node>"), (r"measured\.system\.sha384", "<file>"))


def mask(text, parent, more=None):
    def replace(path, value):
        if path in ("pid", "result.pid"):
            return "<pid>"
        for rule in (more, MASKS):
            token = rule and rule(path, value)
            if token is not None:
                return token
        if path.endswith("runtime_log.#.event"):
            return "<event>"
        if path.endswith("runtime_log.#.digests"):
            return f"<{len(base64.b64decode(value)) // 48} digests>"
        if isinstance(value, str) and parent in value:
            return value.replace(parent, "<parent>")
        if isinstance(value, str) and len(value) > 700:
            return f"<{len(value)} characters, SHA-256 {hashlib.sha256(value.encode()).hexdigest()}>"
        return None

    return masks.masked(text, replace)


def event(raw, parent):
    """An event's bytes; with random values and the machine's own replaced."""
    word, operation, body = raw.split(b" ", 2)
    text = body.decode()
    if masks.jcs(json.loads(text)) != text:
        return f"NOT RFC 8785: {raw!r}"
    return f"{word.decode()} {operation.decode()} {mask(text, parent)}"


def records(data):
    """The TLVs of a CEL-TLV log: a type of one byte, a length of four; those with nothing but TLVs in them likewise."""
    out = []
    while data:
        kind, size = data[0], int.from_bytes(data[1:5], "big")
        if len(data) < 5 + size:
            return None
        inner = records(data[5:5 + size]) if size > 5 else None
        out.append([kind, inner if inner else size])
        data = data[5 + size:]
        if data and len(data) < 5:
            return None
    return out


class Live:
    def __init__(self, golden, sim, ctl):
        self.golden, self.w = golden, world.World(sim, ctl)
        os.makedirs(world.ROOT + "/files")
        self.kept = {}  # evidence to record

    def daemon(self, name, config, *flags, ready=True):
        d = Daemon(self.w.sim, name, config, *flags, ready=ready)
        if "[gate]\nmode" not in config:
            until("the gate", lambda: self.holds(d))
        return d

    def holds(self, d):
        """Executes a runtime, and checks that the gate holds it."""
        subprocess.run([world.RUNTIME, "0"], check=True)
        metrics = json.loads(self.w.host.call(d.admin, "GetStatus", {"metrics": True}))["result"]["metrics"]
        return not re.search(r'_gate_hold_duration_seconds_count\{of="runtime"\} 0\n', metrics)

    def mask(self, text, more=None):
        return mask(text, self.w.parent, more)

    def appraised(self, name, raw, d):
        """Fresh evidence, appraised by cimactl: without a policy, and under a policy made from it."""
        files = world.ROOT + "/files/"
        bundle = raw[raw.index('"result":') + len('"result":'):-1]
        with open(files + "evidence.json", "w", encoding="utf-8") as f:
            f.write(bundle)
        root = ["--trust-root", d.td.root]
        verify = [self.w.ctl, "verify", "evidence.json", "--nonce", NONCE_HEX, "--json", *root]
        results = []
        for more in ([], ["--policy", "policy.toml"]):
            code, out, err = self.w.host.run(verify + more)
            result = json.loads(out) if out else {}
            results.append([code, result.get("verdict"), [f"{s['name']}: {s['outcome']}" for s in result.get("steps", [])], sorted(result)])
            code, out, err = self.w.host.run([self.w.ctl, "policy", "init", "evidence.json", *root])
            results.append(code)
            with open(files + "policy.toml", "wb") as f:
                f.write(out)
        self.golden.add("evidence", f"{name}, appraised", results)

    def events(self, name, d, *unordered):
        """All events of a log in their order, without those that come by themselves."""
        lines = d.lines()
        all = list(zip([event(e, self.w.parent) for e in d.events(len(lines))], lines))
        for part in unordered:
            all[part] = sorted(all[part])
        for n, (e, line) in enumerate(all):
            self.golden.add("events", f"{name} {n}", e)
            hide = masks.rules(("before|after", "<register>"), ("event", "<event>"), ("cgroup", "<cgroup>"))
            text = re.sub(r'"instance":"[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+/(0|[0-9a-f]+)"',
                          lambda m: '"instance":"<record>/' + ("0" if m[1] == "0" else "<cgroup>") + '"', line)
            self.golden.add("log on disk", f"{name} {n}", masks.masked(text, hide))

    def reply(self, group, name, raw, more=None):
        """A reply as it went over the wire; texts for people apart."""
        if raw.startswith(("EOF", "CUT")):
            self.golden.add(group, name, raw[:3])
            return
        text, said = masks.split_texts(self.mask(raw, more))
        said = [re.sub(r"\b(?:[0-9]+h)?(?:[0-9]+m)?[0-9.]+m?s\b", "<time>", re.sub(r"in hierarchy \S+", "in hierarchy <one>", s)) for s in said]
        self.golden.add(group, name, text, said)

    def claims(self, name, raw):
        """The claims in a reply, which are canonical."""
        claims = re.search(r'"claims":(\{.*?\}),"(?:shared|agent_signature|cc_report|quote)"', raw)
        text = claims[1]
        if masks.jcs(json.loads(text)) != text:
            text = "NOT RFC 8785: " + text
        self.golden.add("claims", name, masks.masked(
            text, lambda p, v: MASKS("claims." + p, v) or (v.replace(self.w.parent, "<parent>") if isinstance(v, str) and self.w.parent in v else None)))

    def run(self):
        try:
            self.main()
            self.executions()
            self.variants()
            self.troubles()
            self.powers()
        finally:
            self.w.close()

    # The default configuration.

    def main(self):
        world.ima_log([world.ima_ng("boot_aggregate", b"boot"), world.ima_ng("/usr/bin/first", b"1"), world.ima_ng("/usr/bin/se cond", b"2")], new=True)
        d = self.daemon("main", MAIN)
        d.find("the service", "system")
        d.find("IMA's entries", "ima")
        first = Container(self.w, 1, bundle(annotations={"golden.label": "a b"}))
        first.gate()
        first.start()
        d.find("the first launch", "launch")
        d.find("the first image", "image")
        self.first = first
        for who, caller in (("host", self.w.host), ("container", first.caller)):
            for name, method, params in CALLS:
                raw = caller.call(d.socket, method, params)
                self.reply("replies", f"{who}: {name}", raw)
                if method in ("GetEvidence", "GetCCReport") and '"claims"' in raw:
                    self.claims(f"{who}: {name}", raw)
                if name in ("evidence", "evidence, shared"):
                    self.appraised(f"{who}: {name}", raw, d)
                    self.kept[who + name] = raw
            self.formats(who, caller, d)
            self.clients(who, caller, d)
        self.kept["root"] = open(d.td.root).read()
        self.errors(d, first)
        with_power = Container(self.w, 2, bundle(linux={"seccomp": None, "namespaces": [{"type": "mount"}, {"type": "pid"}]}), image="other/app@sha256:" + "77" * 32)
        with_power.start()
        d.find("the second launch", "image", lambda e: with_power.id.encode() in e)
        self.reply("replies", "observed, with power: who am I", with_power.caller.call(d.socket, "WhoAmI"))
        self.reply("replies", "another image may not extend", with_power.caller.call(d.socket, "ExtendMeasurement", {"domain": "a", "operation": "b", "content": ""}))
        podman = Container(self.w, 9, bundle(env=["container=podman", "A=1"]), image=None, podman=True)
        podman.start()
        d.find("a podman's launch", "image", lambda e: podman.id.encode() in e)
        self.reply("replies", "podman: who am I", podman.caller.call(d.socket, "WhoAmI"))
        podman.end()
        d.find("its end", "exit", lambda e: podman.id.encode() in e)
        without = Container(self.w, 3, bundle(annotations={"golden.label": "no report"}), image=None)
        self.w.engine.broken.add(without.id)
        without.gate()
        without.start()
        self.reply("errors", "-32008: the image isn't known yet", without.caller.call(d.socket, "GetMeasurements"))
        d.find("an image that isn't reported", "image", lambda e: without.id.encode() in e)
        self.reply("replies", "no image: who am I", without.caller.call(d.socket, "WhoAmI"))
        self.reply("errors", "-32002: a rule by label", without.caller.call(d.socket, "GetCCReport", {"nonce": NONCE}))
        world.ima_log([world.ima_ng("/usr/bin/third", b"3"), world.ima_ng("/usr/bin/four\nth", b"4", "sha1")])
        d.find("IMA's next entries", "ima", lambda e: b'"from":3' in e)
        torn = Container(self.w, 4, '{"ociVersion":', image=None)
        torn.gate()
        d.find("what was missed", "missed")
        torn.end()
        with_power.end()
        d.find("the end", "exit", lambda e: with_power.id.encode() in e)
        first.end()  # and starts anew
        d.find("the first one's end", "exit", lambda e: first.id.encode() in e)
        first = Container(self.w, 1, bundle(annotations={"golden.label": "c"}, terminal=True))
        first.gate()
        first.start()
        until("the second launch", lambda: len([e for e in d.events() if e.startswith(b"cima image ") and first.id.encode() in e]) == 2)
        self.reply("replies", "started anew: who am I", first.caller.call(d.socket, "WhoAmI"))
        self.admin(d, first)
        d.process.send_signal(signal.SIGHUP)
        until("the reload", lambda: len([e for e in d.events() if e.startswith(b"cima policy ")]) == 2)
        d.stop()
        d.start(ready=False)
        for operation in (b"seal", b"ima", b"system"):
            until("the second start", lambda: [e for e in d.events()[-5:] if e.startswith(b"cima " + operation + b" ")])
        self.reply("replies", "after a restart: measurement 3", first.caller.call(d.socket, "GetCCMeasurement", {"index": 3}))
        self.events("main", d, slice(3, 5), slice(-2, None))
        for c in (first, without):
            c.end()
        d.end()

    def formats(self, who, caller, d):
        for form in ("cima", "trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv"):
            raw = caller.call(d.socket, "GetEvidence", {"nonce": NONCE, "format": form})
            name = f"{who}: {form}"
            if form == "cima":
                self.golden.add("evidence", name, self.mask(raw))
                continue
            self.reply("evidence", name + ", the reply", raw, masks.rules(("content", "<content>")))
            content = base64.b64decode(json.loads(raw)["result"]["content"])
            self.golden.add("evidence", name, self.formed(form, content, d))

    def formed(self, form, content, d):
        if form.startswith("cmw"):
            code, out, err = self.w.host.run([self.w.ctl, "convert", "-"], content)
            return [code, self.mask(out.decode())] if code == 0 else [code, err.decode()]
        if form.startswith("trustee"):
            return self.mask(content.decode(), self.inner)
        code, out, _ = self.w.host.run([self.w.ctl, "replay", "--runtime-log", "/dev/stdin", "--json"], content)
        if form == "cel-tlv":
            return [records(content)[:3], len(records(content))]
        result = [code, re.sub(r'[0-9a-f]{96}', "<digest>", out.decode())]
        if form == "cel":
            result += [re.sub(r'"(?:[0-9a-f]{96}|[0-9a-f]{64,}|[A-Za-z0-9+/=]{40,})"', '"<bytes>"', line) for line in content.decode().splitlines()[:12]]
        return result

    def inner(self, path, value):
        """The base64 content of a value of a form, without random parts."""
        if not isinstance(value, str) or len(value) < 60:
            return None
        try:
            data = base64.b64decode(value + "=" * (-len(value) % 4), "-_" if re.search("[-_]", value) else None, validate=True)
        except ValueError:
            return None
        try:
            return "base64 of " + self.mask(data.decode(), self.inner)
        except ValueError:
            return "<bytes>"

    def clients(self, who, caller, d):
        """Cimactl against the daemon."""
        env = {"CIMA_SOCKET": d.socket}
        with open(world.ROOT + "/files/data", "w") as f:
            f.write("bound")
        for args in CLIENT:
            code, out, err = caller.run([self.w.ctl, *args], env=env, stdin=(NONCE_HEX + "\n").encode())
            name = f"{who}: cimactl {' '.join(args)}"
            out, err = out.decode("utf-8", "replace"), err.decode()
            strict, said = [code], [err]
            if out.startswith("{") and out.find("\n") == len(out) - 1:
                text, texts = masks.split_texts(self.mask(out[:-1], self.inner if "--format" in args else None))
                strict, said = [code, text], [err, texts]
            elif args[-1] in ("cel", "cel-tlv", "cmw-cbor"):
                strict = [code, len(out) > 0]
            else:
                said = [err, re.sub(r"[0-9a-f]{96}", "<digest>", re.sub(r"(?m)^((?:host process|pid|up) +)\S+( s)?", r"\1N", out.replace(self.w.parent, "<parent>")))]
            self.golden.add("cimactl and the daemon", name, strict, said)

    def errors(self, d, first):
        for who, caller in (("host", self.w.host), ("container", first.caller)):
            for name, text in LINES:
                line = text if isinstance(text, bytes) else text.encode()
                self.reply("errors", f"{who}: {name}", caller.ask(d.socket, line if line.endswith(b"\n") else line + b"\n", replies=1)[0])
            for name, method, params in BAD_PARAMS:
                raw = '{"jsonrpc":"2.0","id":1,"method":"%s","params":%s}\n' % (method, params if isinstance(params, str) else json.dumps(params))
                self.reply("errors", f"{who}: {method}: {name}", caller.ask(d.socket, raw)[0])
            for name, lines, replies in SEQUENCES:
                for n, raw in enumerate(sorted(caller.ask(d.socket, *lines, replies=replies))):
                    self.reply("errors", f"{who}: {name}, reply {n}", raw)
        unknown = Caller(Cgroup(self.w.parent, world.container_id(0xee)), True)
        self.reply("errors", "-32001: a cgroup that no record declares", unknown.call(d.socket, "WhoAmI"))
        unknown.end()
        unknown.cgroup.remove()
        astray = Caller(first.cgroup, False)
        self.reply("errors", "-32001: in the cgroup, not in the pid namespace", astray.call(d.socket, "WhoAmI"))
        astray.end()
        nobody = Caller(None, True)
        self.reply("errors", "-32001: a pid namespace and no cgroup", nobody.call(d.socket, "WhoAmI"))
        nobody.end()

    def admin(self, d, first):
        ask = lambda method, params=None: self.w.host.call(d.admin, method, params)
        for name, method, params in CALLS:
            if method != "rpc.discover":
                self.reply("replies", f"admin: {name}", ask(method, {**(params or {}), "container_id": first.id}))
        self.reply("replies", "admin: discover", ask("rpc.discover"))
        self.reply("replies", "admin: containers", ask("ListContainers"))
        for name, method, params in (("no such container", "WhoAmI", {"container_id": "x"}), ("an empty container", "WhoAmI", {"container_id": ""}),
                                     ("a long container", "WhoAmI", {"container_id": "x" * 300}), ("no container", "WhoAmI", {}),
                                     ("a container for all", "ListContainers", {"container_id": "x"}), ("metrics", "GetStatus", {"metrics": 1})):
            self.reply("errors", f"admin: {name}", ask(method, params))
        hide = masks.rules((r"result\.(calls|errors|server|hardware)\..*", "<number>"), (r"result\.container.*", "<number>"),
                           (r"result\.log\.count", "<number>"), (r"result\.metrics", "<metrics>"))
        raw = ask("GetStatus", {"metrics": True})
        self.reply("replies", "admin: status", raw, hide)
        text = json.loads(raw)["result"]["metrics"]
        names = sorted({re.sub(r" [0-9.e+-]+$", " N", re.sub('version="[^"]*"', 'version="<version>"', line)) for line in text.splitlines() if not line.startswith("# HELP")})
        self.golden.add("replies", "admin: metrics", names, sorted(line for line in text.splitlines() if line.startswith("# HELP")))
        env = {"CIMA_SOCKET": d.socket}
        for args in (["containers"], ["containers", "--json"], ["status", "--json"]):
            code, out, err = self.w.host.run([self.w.ctl, "--socket", d.admin, *args], env=env)
            out = out.decode()
            said = [err.decode()]
            if out.startswith("{"):
                out, more = masks.split_texts(self.mask(out, masks.rules((r"(calls|errors|server|hardware)\..*", "<number>"), (r"container", "<number>"), (r"log\.count", "<number>"))))
                strict, said = [code, out], said + more
            else:
                strict, said = [code], said + [out]
            self.golden.add("cimactl and the daemon", f"admin: cimactl {' '.join(args)}", strict, said)

    # Other configurations.

    def executions(self):
        """Executions, as a kernel with ima-cgpath reports them."""
        world.ima_log([world.ima_cgpath("/", "boot_aggregate", b"boot")], new=True)
        d = self.daemon("execs", CONFIG.replace('interval = "20ms"', 'mode = "off"') + '[exec]\nmode = "measure"\nsource = "ima"\n')
        c = Container(self.w, 5, bundle())
        c.gate()
        c.start()
        d.find("the launch", "launch")
        d.find("the image", "image")
        world.ima_log([world.ima_cgpath(c.cgroup.path, "/app", b"app"), world.ima_cgpath(c.cgroup.path, "/bin/with a space", b"b", "sha256"),
                       world.ima_cgpath("/elsewhere", "/bin/not its", b"n"), world.ima_violation(c.cgroup.path, "/bin/open"),
                       world.ima_cgpath(c.cgroup.path, "/app", b"app"), world.ima_cgpath(c.cgroup.path + "/below", "/bin/<&>☃", b"x")])
        raw = until("evidence", lambda: (lambda r: r if "result" in r else None)(c.caller.call(d.socket, "GetEvidence", {"nonce": NONCE})))
        self.claims("executions", raw)
        self.kept["executions"], self.kept["executions, root"] = raw, open(d.td.root).read()
        self.golden.add("evidence", "container, executions", self.mask(raw))
        self.appraised("container, executions", raw, d)
        page = c.caller.call(d.socket, "GetCCEventLog", {"start": 32})
        self.reply("replies", "executions: event log", page)
        self.events_by_operation("executions", d, {"exec", "launch", "image"})
        c.end()
        d.end()

    def events_by_operation(self, name, d, operations):
        for n, e in enumerate(e for e in d.events() if e.split(b" ")[1].decode() in operations):
            self.golden.add("events", f"{name} {n}", event(e, self.w.parent))

    def variants(self):
        """What the configuration changes in evidence."""
        world.ima_log([world.ima_ng("boot_aggregate", b"boot")], new=True)
        for name, top, more in (("everything shown", 'isolation = "none"\nanchor = "report-data"\n', '[launch]\npublic = ["A"]\n'),
                                ("nothing shown", 'isolation = "private"\n', '[launch]\ndata = []\n')):
            config = CONFIG.replace("[launch]\n", more) + '[[access]]\nallow = ["ExtendMeasurement"]\n'
            d = self.daemon(name.replace(" ", "-"), top + config.replace('interval = "20ms"', 'mode = "off"'))
            one, two = Container(self.w, 6, bundle(user={"uid": 7, "gid": 8, "additionalGids": [9, 4]})), Container(self.w, 7, bundle(cwd="/elsewhere"))
            for c in (one, two):
                c.gate()
                c.start()
                d.find("the image", "image", lambda e: c.id.encode() in e)
                c.caller.call(d.socket, "ExtendMeasurement", {"domain": "d", "operation": "o", "content": c.id[:4]})
            for who, caller in (("host", self.w.host), ("first", one.caller), ("second", two.caller)):
                raw = caller.call(d.socket, "GetEvidence", {"nonce": NONCE, "user_data": DATA})
                self.claims(f"{name}, {who}", raw)
                self.golden.add("evidence", f"{name}, {who}", self.mask(raw))
                self.appraised(f"{name}, {who}", raw, d)
                self.kept[f"{name}, {who}"] = raw
            self.kept[f"{name}, root"] = open(d.td.root).read()
            self.events(name, d)
            one.end()
            two.end()
            d.end()

    # Errors that a daemon in the default configuration doesn't return.

    def troubles(self):
        d = self.daemon("limits", """
[ima]
mode = "off"
[gate]
mode = "off"
[limits]
line = 1024
reply = 4096
requests_per_second = 0.001
requests_burst = 6
quotes_per_minute = 0.001
quotes_burst = 1
""")
        for n, (method, params) in enumerate((("GetCCEventLog", {}), ("GetCCReport", {"nonce": NONCE}), ("GetCCReport", {"nonce": NONCE}),
                                              ("WhoAmI", {"x": "y" * 2000}), ("WhoAmI", {}), ("WhoAmI", {}), ("WhoAmI", {}), ("WhoAmI", {}))):
            raw = self.w.host.call(d.socket, method, params)
            self.reply("errors", f"limits: {n} {method}", raw)
        d.end()

        d = self.daemon("connections", CONFIG.replace('interval = "20ms"', 'mode = "off"') + "connections_per_container = 1\n")

        def alone():
            self.w.host.open(d.socket, '{"jsonrpc":"2.0","id":1,"method":"WhoAmI"}\n')
            return "result" in self.w.host.more("", 1)[0]

        until("a connection", alone)  # the previous connection may still be counted
        self.reply("errors", "-32003: a second connection", self.w.host.call(d.socket, "WhoAmI"))
        d.end()

        d = self.daemon("hardware", CONFIG.replace('interval = "20ms"', 'mode = "off"'))
        ask = lambda method, params=None: self.w.host.call(d.socket, method, params)
        for op, errno, method, params in (("quote", 16, "GetCCReport", {"nonce": NONCE}), ("quote", 5, "GetEvidence", {"nonce": NONCE}),
                                          ("registers", 5, "GetMeasurements", None), ("registers", 19, "GetCCMeasurement", {"index": 1})):
            d.td.do(op="faults", faults=[{"op": op, "errno": errno}])
            self.reply("errors", f"-32004: {method}, errno {errno}", ask(method, params))
        d.td.do(op="faults", faults=[{"op": "quote", "empty": True}])
        self.reply("errors", "-32004: an empty quote", ask("GetCCReport", {"nonce": NONCE}))
        d.td.do(op="faults", faults=[])
        d.td.do(op="extend", index=3, data=base64.b64encode(b"\1" * 48).decode())
        for method, params in (("GetEvidence", {"nonce": NONCE}), ("GetMeasurements", None), ("GetCCReport", {"nonce": NONCE})):
            raw = until("the foreign extend is seen", lambda: (lambda r: r if "-32006" in r else None)(ask(method, params)), 20) if method == "GetEvidence" else ask(method, params)
            text, said = masks.split_texts(self.mask(raw))
            self.golden.add("errors", f"-32006: {method}", text, [re.sub(r"[0-9a-f]{16}…", "<digest>…", s) for s in said])
        d.end()

        d = self.daemon("ends", CONFIG.replace('interval = "20ms"', 'mode = "off"'))
        d.td.do(op="faults", faults=[{"op": "quote", "hang": True}])
        self.w.host.open(d.socket, "".join('{"jsonrpc":"2.0","id":%d,"method":"GetCCReport","params":{"nonce":"%s"}}\n' % (n, NONCE) for n in (1, 3)))
        until("one quote waits for the other", lambda: "\ncima_quotes_waiting 1\n" in json.loads(self.w.host.call(d.admin, "GetStatus", {"metrics": True}))["result"]["metrics"])
        d.process.terminate()
        until("the daemon ends", lambda: not accepts(d.admin))
        self.reply("errors", "-32007: while the daemon ends", self.w.host.more('{"jsonrpc":"2.0","id":2,"method":"WhoAmI"}\n', 1)[0])
        d.td.do(op="faults", faults=[])
        for n, raw in enumerate(sorted(self.w.host.more("", 2))):
            self.reply("errors", f"what was asked before is answered, {n}", raw)
        d.end()

    def powers(self):
        """Power and launch of every command line, by the gate."""
        d = self.daemon("powers", CONFIG.replace("[limits]", "[limits]\nevents_per_container = 1000000\nlog_bytes = 1000000000\nevidence_reply = 100000000"))
        before = len(d.events(3))
        large = {"name": "a launch too large for an event", "config": bundle(args=["x" * 60000])}
        for n, row in enumerate(self.golden.launches() + [large]):
            config = json.loads(json.dumps(row["config"]))
            # A device of its own gives each power: a power event that all see
            # is logged once.
            devices = config.setdefault("linux", {}).setdefault("resources", {}).setdefault("devices", [])
            devices.append({"allow": True, "type": "c", "major": 4000, "minor": n, "access": "rw"})
            c = Container(self.w, 8, config, image=None)
            c.gate()
            mine = d.events()[before:]
            before += len(mine)
            c.end()
            texts = [event(e, self.w.parent) for e in mine if not e.startswith((b"cima exit ", b"cima ima "))]
            power = [json.loads(t.split(" ", 2)[2])["measured"]["power"]["classes"] for t in texts if t.startswith("cima power ")]
            launch = [hashlib.sha256(t.encode()).hexdigest() for t in texts if t.startswith("cima launch ")]
            self.golden.add("powers", row["name"], {"power": power, "launch event, SHA-256": launch, "events": [t.split(" ")[1] for t in texts]})
        d.end()


def accepts(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
        except OSError:
            return False
        return True


CALLS = [
    ("algorithm", "GetDefaultAlgorithm", None), ("count", "GetMeasurementCount", None), ("count, no parameters", "GetMeasurementCount", {}),
    ("measurement 0", "GetCCMeasurement", {"index": 0}), ("measurement 1", "GetCCMeasurement", {"index": 1}),
    ("measurement 2, with algorithm", "GetCCMeasurement", {"index": 2, "algo_id": 12}), ("measurement 3", "GetCCMeasurement", {"index": 3}),
    ("extend", "ExtendMeasurement", {"domain": "golden.example", "operation": "write", "content": "<&>   ☃ \\ \" \t"}),
    ("extend, empty", "ExtendMeasurement", {"domain": "d", "operation": "o", "content": ""}),
    ("extend, 4 KiB", "ExtendMeasurement", {"domain": "d" * 128, "operation": "ö" * 64, "content": "x" * 4096}),
    ("measurement 3 after the extends", "GetCCMeasurement", {"index": 3}),
    ("event log", "GetCCEventLog", None), ("event log, a page", "GetCCEventLog", {"start": 0, "count": 2}),
    ("event log, around the end of the boot", "GetCCEventLog", {"start": 31, "count": 2}), ("event log, its end", "GetCCEventLog", {"start": 32}),
    ("event log, start above", "GetCCEventLog", {"start": 1000}), ("event log, one", "GetCCEventLog", {"start": 5, "count": 1}),
    ("event log, the most", "GetCCEventLog", {"count": 1024}),
    ("report", "GetCCReport", {"nonce": NONCE}), ("report, user data", "GetCCReport", {"nonce": NONCE, "user_data": DATA}),
    ("report, no user data", "GetCCReport", {"nonce": NONCE, "user_data": ""}), ("report, shared", "GetCCReport", {"nonce": NONCE, "shared": True}),
    ("report, the shortest nonce", "GetCCReport", {"nonce": "AAAAAAAAAAA="}), ("report, not shared", "GetCCReport", {"nonce": NONCE, "shared": False}),
    ("evidence", "GetEvidence", {"nonce": NONCE, "user_data": DATA}), ("evidence, shared", "GetEvidence", {"nonce": NONCE, "shared": True}),
    ("measurements", "GetMeasurements", None), ("who am I", "WhoAmI", None), ("discover", "rpc.discover", None),
    ("no such method", "NoSuch", None), ("status", "GetStatus", None), ("containers", "ListContainers", {}),
]

CLIENT = [
    ["whoami"], ["whoami", "--json"], ["measurements"], ["measurements", "--json"], ["eventlog"], ["eventlog", "--json"],
    ["eventlog", "--start", "30", "--json"], ["eventlog", "--start", "100000"], ["report", "--nonce", NONCE_HEX], ["report", "--nonce", "-", "--shared"],
    ["evidence", "--nonce", NONCE_HEX], ["evidence", "--nonce", "-", "--user-data", "data"], ["evidence", "--nonce", NONCE_HEX, "--shared"],
    ["evidence", "--nonce", NONCE_HEX, "--format", "trustee"], ["evidence", "--nonce", NONCE_HEX, "--format", "trustee-request"],
    ["evidence", "--nonce", NONCE_HEX, "--format", "cmw"], ["evidence", "--nonce", NONCE_HEX, "--format", "cmw-cbor"],
    ["evidence", "--nonce", NONCE_HEX, "--format", "cel"], ["evidence", "--nonce", NONCE_HEX, "--format", "cel-tlv"],
    ["evidence", "--nonce", NONCE_HEX, "--format", "trustee", "--shared"],
    ["call", "GetDefaultAlgorithm"], ["call", "GetMeasurementCount", "{}"], ["call", "GetCCMeasurement", '{"index":0}'], ["call", "GetCCMeasurement", '{"index":3}'],
    ["call", "GetCCMeasurement", '{"index":0,"container_id":"x"}'], ["call", "NoSuch"], ["call", "WhoAmI", "[1]"], ["call", "GetCCEventLog", '{"start":30,"count":2}'],
    ["status"], ["containers"], ["--socket", "/run/golden/none.sock", "whoami"],
]


def request(id="1", method='"WhoAmI"', more=""):
    return f'{{"jsonrpc":"2.0","id":{id},"method":{method}{more}}}'


LINES = [
    ("nothing", ""), ("white space", "  \t"), ("no JSON", "x"), ("half an object", "{"), ("a number", "1"), ("null", "null"), ("a string", '"a"'), ("true", "true"),
    ("an empty object", "{}"), ("a batch", "[" + request() + "]"), ("an empty batch", "[]"), ("white space around", "  " + request() + " \r"),
    ("two objects", request() + request()), ("behind it", request() + " x"), ("id 0", request("0")), ("id -1", request("-1")), ("a long id", request("1" * 128)),
    ("too long an id", request("1" * 129)), ("id null", request("null")), ("id 1.5", request("1.5")), ("id 1e3", request("1e3")), ("id true", request("true")),
    ("id an object", request("{}")), ("id a string", request('"a <&> \\u2028 ☃"')), ("id an empty string", request('""')), ("id with an escape", request('"\\u0041\\n"')),
    ("no id", '{"jsonrpc":"2.0","method":"WhoAmI"}'), ("no version", '{"id":1,"method":"WhoAmI"}'), ("version 1.0", '{"jsonrpc":"1.0","id":1,"method":"WhoAmI"}'),
    ("version a number", '{"jsonrpc":2.0,"id":1,"method":"WhoAmI"}'), ("version with an escape", '{"jsonrpc":"2.\\u0030","id":1,"method":"WhoAmI"}'),
    ("version null", '{"jsonrpc":null,"id":1,"method":"WhoAmI"}'), ("no method", '{"jsonrpc":"2.0","id":1}'), ("method empty", request(method='""')),
    ("method a number", request(method="1")), ("method null", request(method="null")), ("method unknown", request(method='"No <&> such"')),
    ("method in another case", request(method='"whoami"')), ("method with an escape", request(method='"Who\\u0041mI"')), ("a long method", request(method='"' + "m" * 300 + '"')),
    ("params null", request(more=',"params":null')), ("params an array", request(more=',"params":[]')), ("params a string", request(more=',"params":"x"')),
    ("params empty", request(more=',"params":{}')), ("an unknown member", request(more=',"x":1')), ("id twice", request(more=',"id":2')),
    ("method twice", request(more=',"method":"WhoAmI"')), ("params twice", request(more=',"params":{},"params":{}')), ("a member in another case", request(more=',"Params":{}')),
    ("a member in another case, twice", request(more=',"ID":1')), ("a member with an escape", request(more=',"par\\u0061ms":{}')), ("an empty member", request(more=',"":1')),
    ("bad UTF-8", b'{"jsonrpc":"2.0","id":"\xff","method":"WhoAmI"}'), ("bad UTF-8 in a member", b'{"jsonrpc":"2.0","id":1,"method":"WhoAmI","\xff":1}'),
    ("half a surrogate", request('"\\ud800"')), ("a surrogate pair", request('"\\ud83d\\ude00"')), ("a control character", b'{"jsonrpc":"2.0","id":"\x01","method":"WhoAmI"}'),
    ("a NUL", b'{"jsonrpc":"2.0","id":1,"method":"WhoAmI"}\0'), ("a byte order mark", b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"WhoAmI"}'),
    ("a trailing comma", '{"jsonrpc":"2.0","id":1,"method":"WhoAmI",}'), ("a number with a leading zero", request("01")), ("a number with a plus", request("+1")),
    ("single quotes", "{'jsonrpc':'2.0'}"), ("a comment", request() + "//"), ("deep", request(more=',"params":{"x":' + "[" * 40 + "]" * 40 + "}")),
    ("31 deep", request(more=',"params":{"x":' + "[" * 29 + "]" * 29 + "}")), ("a reply", '{"jsonrpc":"2.0","id":1,"result":{}}'),
    ("a notification of cancel", '{"jsonrpc":"2.0","method":"rpc.cancel","params":{"id":1}}'), ("rpc.serverInfo", request(method='"rpc.serverInfo"')),
    ("64 KiB", request(more=',"params":{"x":"' + "y" * 65000 + '"}')), ("more than 64 KiB", request(more=',"params":{"x":"' + "y" * 66000 + '"}')),
    ("64 KiB without an end", "x" * 65537),
]

BAD_PARAMS = [
    (name, method, params) for method, rows in {
        "WhoAmI": [("unknown", {"x": 1}), ("unknown, odd", '{"<&>☃\\n":1}'), ("twice unknown", '{"x":1,"x":2}'), ("container_id", {"container_id": "x"}), ("long name", {"n" * 400: 1}), ("an empty name", {"": 1})],
        "GetCCMeasurement": [("missing", {}), ("null", {"index": None}), ("a string", {"index": "0"}), ("negative", {"index": -1}), ("above", {"index": 4}), ("1.0", '{"index":1.0}'),
                             ("1e0", '{"index":1e0}'), ("-0", '{"index":-0}'), ("huge", '{"index":99999999999999999999}'), ("true", {"index": True}), ("twice", '{"index":0,"index":1}'),
                             ("another case", '{"Index":0}'), ("both cases", '{"index":0,"INDEX":0}'), ("algorithm", {"index": 0, "algo_id": 11}), ("algorithm null", '{"index":0,"algo_id":null}'),
                             ("an array", {"index": [0]}), ("an escape", '{"ind\\u0065x":0}'), ("both missing and unknown", {"x": 1})],
        "GetCCEventLog": [("start negative", {"start": -1}), ("start above", {"start": 2**31}), ("start a string", {"start": "1"}), ("count 0", {"count": 0}), ("count above", {"count": 1025}), ("count null", {"count": None})],
        "GetCCReport": [("missing", {}), ("null", {"nonce": None}), ("a number", {"nonce": 1}), ("empty", {"nonce": ""}), ("short", {"nonce": "AAAAAAAAAA=="}), ("long", {"nonce": "A" * 88}),
                        ("longest", {"nonce": "A" * 84 + "AA=="}), ("no base64", {"nonce": "!" * 12}), ("no padding", {"nonce": "AAAAAAAAAAA"}), ("loose bits", {"nonce": "AAAAAAAAAAB="}),
                        ("URL alphabet", {"nonce": "____________"}), ("white space", {"nonce": "AAAA AAAAAAA="}), ("line feed", {"nonce": "AAAAAAAAAAA=\n"}), ("an escape", '{"nonce":"\\u0041AAAAAAAAAA="}'),
                        ("user data large", {"nonce": NONCE, "user_data": "A" * 5464}), ("user data null", {"nonce": NONCE, "user_data": None}), ("shared a string", {"nonce": NONCE, "shared": "true"}),
                        ("shared null", {"nonce": NONCE, "shared": None}), ("format", {"nonce": NONCE, "format": "cima"})],
        "GetEvidence": [("missing", {}), ("format", {"nonce": NONCE, "format": "jwt"}), ("format empty", {"nonce": NONCE, "format": ""}), ("format null", {"nonce": NONCE, "format": None}),
                        ("format long", {"nonce": NONCE, "format": "x" * 100}), ("trustee shared", {"nonce": NONCE, "format": "trustee", "shared": True}),
                        ("trustee-request shared", {"nonce": NONCE, "format": "trustee-request", "shared": True}), ("a case", '{"Nonce":"%s"}' % NONCE)],
        "ExtendMeasurement": [("missing all", {}), ("missing content", {"domain": "d", "operation": "o"}), ("domain empty", {"domain": "", "operation": "o", "content": ""}),
                              ("domain long", {"domain": "d" * 129, "operation": "o", "content": ""}), ("domain of words", {"domain": "a b", "operation": "o", "content": ""}),
                              ("a tab", {"domain": "a", "operation": "o\t", "content": ""}), ("no-break space", {"domain": "a\u00a0b", "operation": "o", "content": ""}),
                              ("content large", {"domain": "d", "operation": "o", "content": "x" * 4097}), ("content above the wire's", {"domain": "d", "operation": "o", "content": "x" * 16385}),
                              ("content with a line feed", {"domain": "d", "operation": "o", "content": "a\nb"}), ("content null", {"domain": "d", "operation": "o", "content": None}),
                              ("content a number", {"domain": "d", "operation": "o", "content": 1}), ("half a surrogate", '{"domain":"d","operation":"o","content":"\\ud800"}'),
                              ("reserved domain", {"domain": "cima", "operation": "launch", "content": ""})],
        "rpc.discover": [("unknown", {"x": 1})],
    }.items() for name, params in rows]

SEQUENCES = [
    ("good, bad, good", [request("1") + "\n", "x\n", request('"2"', '"GetDefaultAlgorithm"') + "\n"], 3),
    ("no newline", [request("1", '"GetDefaultAlgorithm"')], 0),
    ("ten at once", [request(str(n), '"GetDefaultAlgorithm"') + "\n" for n in range(10)], 10),
]

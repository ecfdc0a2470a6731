"""What cimactl and the daemons' command lines print when no daemon runs."""

import base64
import hashlib
import json
import os
import re
import subprocess
import tempfile

import masks

HERE = os.path.dirname(os.path.abspath(__file__))
NONCE = base64.b64decode("YSBub25jZSBvZiB0aGUgZ29sZGVucywgMzIgYnl0ZXM=").hex()
AT = "2026-12-01T00:00:00Z"
FORMS = ("cima", "trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv")
EARLIER = ("host", "container", "container-shared")  # of profile v1
STORED = ("host", "container", "host-shared", "container-shared", "executions", "all", "nothing")


class Offline:
    def __init__(self, golden, programs):
        self.golden, self.programs = golden, programs
        self.dir = tempfile.TemporaryDirectory(prefix="golden-")
        for name in STORED:
            text = open(f"{HERE}/evidence/{name}.json", encoding="utf-8").read()
            self.file(name + ".json", text)
        for name in os.listdir(f"{HERE}/evidence"):
            if name.endswith(".pem"):
                self.file(name, open(f"{HERE}/evidence/{name}").read())
        for name in EARLIER:
            self.file(f"v1-{name}.json", open(f"{HERE}/evidence/v1/{name}.json", encoding="utf-8").read())

    def file(self, name, text):
        with open(f"{self.dir.name}/{name}", "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())

    def do(self, *args, program="cimactl", stdin=b""):
        p = subprocess.run([self.programs[program], *args], input=stdin, capture_output=True, cwd=self.dir.name, timeout=120,
                           env={"PATH": os.environ["PATH"], "CIMA_SOCKET": "/run/golden/none.sock"})
        return p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")

    def add(self, group, name, *args, whole=False, stdin=b"", program="cimactl"):
        """A command line: code and JSON are strict, texts for people are apart."""
        code, out, err = self.do(*args, stdin=stdin, program=program)
        if whole:
            self.golden.add(group, name, [code, len(out), hashlib.sha256(out).hexdigest()], [err])
            return out
        text = out.decode("utf-8", "replace")
        if text.startswith("{") and text.find("\n") == len(text) - 1:
            strict, said = masks.split_texts(text[:-1])
            self.golden.add(group, name, [code, strict], [err, said])
        else:
            self.golden.add(group, name, [code], [err, text])
        return out

    def run(self):
        with self.dir:
            self.launches()
            self.convert()
            self.verify()
            self.replay()
            self.policies()
            self.usage()
            self.configurations()

    def root(self, name):
        return {"all": "all.pem", "nothing": "nothing.pem", "executions": "executions.pem"}.get(name, "root.pem")

    def launches(self):
        self.file("image-config.json", '{"config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8"],"Labels":{"cima.environment.public":"U"}}}')
        for n, row in enumerate(self.golden.launches()):
            text = json.dumps(row["config"], ensure_ascii=False).encode()
            code, out, err = self.do("predict", "--config", "-", "--json", "--label", "a", "--label", "com.docker.compose.service", stdin=text)
            self.golden.add("launches", row["name"], [code, out.decode().rstrip("\n")], [err])
            if n % 8 == 0:
                for name, more in (("public variables", ["--public", "A,LANG"]), ("image's config known", ["--image-config", "image-config.json"])):
                    code, out, err = self.do("predict", "--config", "-", "--json", *more, stdin=text)
                    asked = json.loads(out)["launch"].get("asked", {}) if code == 0 else {}
                    self.golden.add("launches", f"{row['name']}, {name}", [code, hashlib.sha256(out).hexdigest(), asked.get("environment")], [err])
        with open(f"{self.dir.name}/config.json", "w") as f:
            json.dump(self.golden.launches()[0]["config"], f)
        config, run = ["--config", "config.json"], "docker run -v data:/data -e LANG=de -e U=1 -u 7:8 golden/app:1 sleep 60"
        for name, args in {
            "plain": config, "image's config": [*config, "--image-config", "image-config.json", "--json"], "image's config bad": [*config, "--image-config", "none"],
            "entrypoint": [*config, "--entrypoint", "/bin/sleep=" + "0a" * 48, "--json"], "entrypoint bad": [*config, "--entrypoint", "/bin/sleep=0A"],
            "public": [*config, "--public", "A,PATH", "--json"], "both": [*config, "--bundle", "."], "a line": ["--run", run, "--image-config", "image-config.json", "--json"],
            "a line, for people": ["--run", run, "--image-config", "image-config.json"], "a line without an image's config": ["--run", run, "--json"],
            "a line of podman": ["--run", run.replace("docker", "podman"), "--image-config", "image-config.json", "--json"], "no line": ["--run", "docker ps"],
        }.items():
            self.add("launches", "predict: " + name, "predict", *args)
        for name, text in {
            "no JSON": "{", "null": "null", "an array": "[]", "empty": "{}", "nothing": "", "two": "{}{}", "duplicate": '{"process":{"args":["a"],"args":["b"]},"root":{"path":"r"},"linux":{}}',
            "another case": '{"Process":{"Args":["a"],"cwd":"/","user":{"uid":0,"gid":0}},"ROOT":{"path":"r"},"linux":{"cgroupsPath":"/x"}}',
            "bad UTF-8": b'{"process":{"args":["a\xff"],"cwd":"/\xfe","env":["A\xff=b"],"user":{"uid":0,"gid":0}},"root":{"path":"r"},"mounts":[{"destination":"/\xff","type":"tmpfs"}],"linux":{}}',
            "null members": '{"process":{"args":null,"cwd":"/","env":null,"user":{"uid":0,"gid":0},"capabilities":null},"root":{"path":"r"},"mounts":null,"hooks":null,"linux":{"namespaces":null,"seccomp":null,"resources":null}}',
            "seccomp numbers": '{"process":{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"r"},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["b","a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":9007199254740993,"op":"SCMP_CMP_EQ"},{"index":1,"value":1e3}]}]}}}',
            "escapes": '{"process":{"args":["<&>","\\u2028","\\u0000","\\ud800","\\ud83d\\ude00","\\/","\\u007f"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"r"},"linux":{}}',
            "hooks": '{"process":{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"r"},"hooks":{"prestart":[{"path":"/h","args":["h","x"]}],"poststop":[{"path":"/bin/i"}],"startContainer":[{"path":"/j","env":["A=1"]}]},"linux":{}}',
            "empty lists": '{"process":{"args":[],"cwd":"","env":[],"user":{"uid":0,"gid":0,"additionalGids":[],"umask":0},"capabilities":{"bounding":[]}},"root":{"path":"r","readonly":false},"mounts":[],"hooks":{},"annotations":{},"linux":{"namespaces":[],"sysctl":{},"maskedPaths":[],"readonlyPaths":[],"devices":[],"resources":{"devices":[]}}}',
            "devices": '{"process":{"args":["a"],"cwd":"/","terminal":true,"user":{"uid":4294967295,"gid":0,"umask":18}},"root":{"path":"r","readonly":true},"linux":{"devices":[{"path":"/dev/b","type":"b","major":8,"minor":1,"fileMode":438,"uid":0,"gid":6},{"path":"/dev/a","type":"p","major":0,"minor":0}],"resources":{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"},{"allow":true,"type":"c","major":-1,"minor":5,"access":"rw"}]}}}',
            "a large one": '{"process":{"args":["%s"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"r"},"linux":{}}' % ("x" * 60000),
            "too large": " " * (4 << 20) + "{}",
        }.items():
            self.add("launches", "config.json: " + name, "predict", "--config", "-", "--json", stdin=text if isinstance(text, bytes) else text.encode())

    def convert(self):
        for name in STORED:
            for form in FORMS:
                out = self.add("convert", f"{name} to {form}", "convert", name + ".json", "--format", form, whole=True)
                if form == "cima":
                    continue
                for to in ("cima", form, "cel", "trustee"):
                    if name in ("container", "host-shared"):
                        self.add("convert", f"{name} from {form} to {to}", "convert", "-", "--format", to, whole=True, stdin=out)
                if name == "container" and form.startswith("c"):
                    self.add("verify", f"container as {form}", "verify", "-", "--nonce", NONCE, "--at", AT, "--trust-root", "root.pem", "--json", stdin=out)
        for name, data in {"nothing": b"", "null": b"null", "an object": b"{}", "no JSON": b"\x00\x01", "CBOR": b"\xd9\xd9\xf7\xa0"}.items():
            self.add("convert", "from " + name, "convert", "-", stdin=data)

    def verify(self):
        base = ["--nonce", NONCE, "--at", AT]
        for name in STORED:
            root = ["--trust-root", self.root(name)]
            self.add("verify", name, "verify", name + ".json", *base, *root, "--json")
            self.add("verify", name + ", for people", "verify", name + ".json", *base, *root)
            self.add("verify", name + ", no root", "verify", name + ".json", *base, "--json")
        for name in EARLIER:
            self.add("verify", f"{name} of profile v1", "verify", f"v1-{name}.json", *base, "--trust-root", "root.pem", "--json")
            self.add("verify", f"policy of {name} of profile v1", "policy", "init", f"v1-{name}.json", "--trust-root", "root.pem")
        for name, args in {
            "another nonce": ["--nonce", "00" * 32], "no nonce": [], "nonce no hex": ["--nonce", "xyz"], "nonce short": ["--nonce", "00"], "long ago": [*base[:2], "--at", "2020-01-01T00:00:00Z"],
            "far away": [*base[:2], "--at", "2040-01-01T00:00:00Z"], "no time": [*base[:2], "--at", "yesterday"], "user data": [*base, "--user-data", "root.pem"], "user data absent": [*base, "--user-data", "none"],
            "policy absent": [*base, "--policy", "none.toml"], "policy no TOML": [*base, "--policy", "root.pem"], "collateral absent": [*base, "--collateral", "none"],
            "collateral and online": [*base, "--collateral", ".", "--online"], "empty flag": [*base, "--policy", ""], "quote too": [*base, "--quote", "root.pem"],
        }.items():
            self.add("verify", "container: " + name, "verify", "container.json", "--trust-root", "root.pem", *args, "--json")
        for kind in ("container", "host-shared", "executions"):
            text = open(f"{self.dir.name}/{kind}.json").read().rstrip("\n")
            for name, forged in forgeries(json.loads(text), text):
                self.add("verify", f"{kind} forged: {name}", "verify", "-", *base, "--trust-root", self.root(kind), "--json", stdin=forged if isinstance(forged, bytes) else forged.encode())
        evidence = json.load(open(f"{self.dir.name}/container.json"))
        quote, boot = base64.b64decode(evidence["quote"]), base64.b64decode(evidence["boot_log"])
        self.file("quote.bin", quote)
        self.file("ccel.bin", boot)
        self.file("quote-short.bin", quote[:700])
        self.file("quote-flipped.bin", quote[:600] + bytes([quote[600] ^ 1]) + quote[601:])
        self.file("ccel-short.bin", boot[:1000])
        events = [base64.b64decode(e["event"]) for e in evidence["runtime_log"] if "event" in e]
        self.file("events.aael", b"\n".join(events) + b"\n")
        self.file("empty", "")
        for name, args in {
            "quote": ["--quote", "quote.bin"], "quote and boot log": ["--quote", "quote.bin", "--boot-log", "ccel.bin"], "quote short": ["--quote", "quote-short.bin"],
            "quote flipped": ["--quote", "quote-flipped.bin", "--boot-log", "ccel.bin"], "boot log short": ["--quote", "quote.bin", "--boot-log", "ccel-short.bin"],
            "empty": ["--quote", "empty"], "nothing": [],
        }.items():
            self.add("verify", "bare: " + name, "verify", *args, "--at", AT, "--trust-root", "root.pem", "--json")

    def replay(self):
        cel = self.do("convert", "host.json", "--format", "cel")[1]
        tlv = self.do("convert", "container.json", "--format", "cel-tlv")[1]
        self.file("log.cel", cel)
        self.file("log.tlv", tlv)
        self.file("log-short.cel", cel[: len(cel) // 2])
        self.file("log-less.cel", b"".join(cel.splitlines(True)[:-1]))
        self.file("log-mixed.cel", b"".join(reversed(cel.splitlines(True))))
        self.file("ima.ascii", "10 %s ima-ng sha256:%s /bin/a\n" % ("ab" * 20, "cd" * 32) * 3)
        self.file("ima-bad.ascii", "10 zz ima-ng sha256:00 /bin/a\n")
        for name, args in {
            "boot log": ["--boot-log", "ccel.bin"], "boot log and quote": ["--boot-log", "ccel.bin", "--quote", "quote.bin"], "log": ["--runtime-log", "log.cel"],
            "log and another's quote": ["--runtime-log", "log.cel", "--quote", "quote.bin"], "all": ["--boot-log", "ccel.bin", "--runtime-log", "log.cel", "--quote", "quote.bin"],
            "TLV": ["--runtime-log", "log.tlv", "--quote", "quote.bin"], "short": ["--runtime-log", "log-short.cel"], "less": ["--runtime-log", "log-less.cel", "--quote", "quote.bin"],
            "mixed": ["--runtime-log", "log-mixed.cel"], "evidence": ["--runtime-log", "container.json"], "events": ["--runtime-log", "events.aael"], "empty": ["--runtime-log", "empty"],
            "IMA": ["--ima-log", "ima.ascii"], "IMA bad": ["--ima-log", "ima-bad.ascii"], "boot log short": ["--boot-log", "ccel-short.bin"], "boot log as IMA": ["--ima-log", "ccel.bin"],
            "nothing": [], "quote alone": ["--quote", "quote.bin"], "both": ["--quote", "quote.bin", "--tdreport", "quote.bin"], "TDREPORT bad": ["--boot-log", "ccel.bin", "--tdreport", "quote.bin"],
        }.items():
            self.add("replay", name + ", JSON", "replay", *args, "--json")
            self.add("replay", name, "replay", *args)

    def policies(self):
        for name in ("host", "container", "executions", "host-shared", "all"):
            code, out, err = self.do("policy", "init", name + ".json", "--trust-root", self.root(name), "--at", AT, "--waive", "collateral,host-input-unknown,start-observed,mounts")
            lines = out.decode().splitlines()
            self.golden.add("policies", "init of " + name, [code, [x for x in lines if not x.lstrip().startswith("#")]], [err, [x for x in lines if x.lstrip().startswith("#")]])
            self.file(name + ".toml", out)
            for other in ("host", "container", "executions", "all"):
                self.add("policies", f"{other} held against {name}'s", "verify", other + ".json", "--nonce", NONCE, "--at", AT, "--trust-root", self.root(other), "--policy", name + ".toml", "--json")
        for name, args in {
            "good": ["container.toml", "container.json"], "two": ["container.toml", "container.json", "host.json"], "absent": ["none.toml", "host.json"],
            "not evidence": ["host.toml", "root.pem"], "none": ["host.toml"],
        }.items():
            self.add("policies", "test: " + name, "policy", "test", *args, "--trust-root", "root.pem", "--at", AT)
        plain = open(f"{self.dir.name}/container.toml").read()
        keys = [line.split("=")[0].strip() for line in plain.splitlines() if re.match(r"\s*[a-z_0-9]+\s*=", line)]
        for n, key in enumerate(dict.fromkeys(keys)):
            self.file("bad.toml", re.sub(rf"(?m)^(\s*){key}(\s*)=.*$", rf"\1{key}\2= 'nonsense'", plain, count=1))
            self.add("policies", f"bad: {key}", "verify", "container.json", "--nonce", NONCE, "--at", AT, "--trust-root", "root.pem", "--policy", "bad.toml", "--json")
            self.file("bad.toml", re.sub(rf"(?m)^(\s*){key}(\s*)=", rf"\1{key}x\2=", plain, count=1))
            self.add("policies", f"unknown: {key}x", "verify", "container.json", "--nonce", NONCE, "--at", AT, "--trust-root", "root.pem", "--policy", "bad.toml", "--json")
        for name, text in {
            "whole": "backend: ima\nhashAlgorithm: sha384\nmeasure:\n  system:\n    withParameter: true\n    processes: [/usr/bin/containerd, name]\n  container:\n    isolated: false\n  kubernetes:\n    pods: [kube-proxy]\n",
            "empty": "", "unknown": "x: 1\n", "two": "a: 1\n---\nb: 2\n", "a list": "- a\n",
        }.items():
            self.add("policies", "convert: " + name, "policy", "convert", "-", stdin=text.encode())

    def usage(self):
        self.file("large", bytes((16 << 20) + 1))
        for args in USAGE:
            self.add("command line", "cimactl " + " ".join(args), *args)
        for command in ("", "evidence", "report", "whoami", "measurements", "eventlog", "call", "containers", "status", "nonce", "verify", "replay", "policy", "policy init", "policy test", "policy convert", "convert", "predict", "doctor"):
            code, out, err = self.do(*command.split(), "--help")
            flags = re.findall(r"(?m)^ +(?:-\w, )?--([a-z-]+)", out.decode())
            self.golden.add("command line", f"cimactl {command} --help", [code, flags], [err, out.decode()])
        for program in ("cimad-sim", "cimad"):
            if program not in self.programs:
                continue
            for args in (["--help"], ["--nosuch"], ["x"], ["--check-config", "--config", "none.toml"]):
                code, out, err = self.do(*args, program=program)
                flags = re.findall(r"(?m)^ +-([a-z-]+)", out.decode())
                self.golden.add("command line", f"{program} {' '.join(args)}", [code, flags], [err, out.decode()])

    def configurations(self):
        for name, text in CONFIGURATIONS.items():
            self.file("cimad.toml", text)
            code, out, err = self.do("--check-config", "--config", "cimad.toml", program="cimad-sim")
            self.golden.add("configurations", name, [code], [err, out.decode()])


def forgeries(e, text):
    """Faulty evidence, and its name."""
    dump = lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":"))

    def change(name, value):
        return dump({**e, name: value})

    def flip(b64, at=-1):
        raw = bytearray(base64.b64decode(b64))
        raw[at] ^= 1
        return base64.b64encode(bytes(raw)).decode()

    yield "nothing, white space around", f" {text} \n"
    yield "nothing, written anew", json.dumps(e)
    for name in e:
        yield f"{name} left out", dump({k: v for k, v in e.items() if k != name})
        yield f"{name} null", change(name, None)
        yield f"{name} twice", text[:-1] + f',"{name}":{dump(e[name])}}}'
        yield f"{name} in capitals too", text[:-1] + f',"{name.upper()}":{dump(e[name])}}}'
        yield f"{name} a number", change(name, 1)
        if isinstance(e[name], str):
            yield f"{name} empty", change(name, "")
            yield f"{name} changed", change(name, ("A" if e[name][0] != "A" else "B") + e[name][1:])
    yield "an unknown member", text[:-1] + ',"x":1}'
    yield "behind it", text + "{}"
    yield "cut", text[: len(text) // 2]
    yield "quote's body", change("quote", flip(e["quote"], 600))
    yield "quote's signature", change("quote", flip(e["quote"], 700))
    yield "quote's last byte", change("quote", flip(e["quote"]))
    yield "behind the quote", change("quote", base64.b64encode(base64.b64decode(e["quote"]) + b"\0").decode())
    yield "boot log's last byte", change("boot_log", flip(e["boot_log"]))
    yield "boot log longer", change("boot_log", base64.b64encode(base64.b64decode(e["boot_log"]) + b"\xff" * 32).decode())
    yield "signature", change("agent_signature", flip(e["agent_signature"], 3))
    yield "loose base64", change("agent_signature", e["agent_signature"][:-3] + "B==")
    for name in e["claims"]:
        claims = {k: v for k, v in e["claims"].items() if k != name}
        yield f"claims without {name}", change("claims", claims)
    yield "claims with more", change("claims", {**e["claims"], "x": 1})
    log = e["runtime_log"]
    for n in range(len(log)):
        yield f"log without {n}", change("runtime_log", log[:n] + log[n + 1:])
    yield "log reversed", change("runtime_log", log[::-1])
    yield "log twice", change("runtime_log", log + log[-1:])
    yield "log with an empty entry", change("runtime_log", log + [{}])
    yield "log with both", change("runtime_log", log[:-1] + [{"event": "AAAA", "digests": "A" * 64}])
    yield "log of odd digests", change("runtime_log", log + [{"digests": "AAAA"}])
    yield "more digests", change("runtime_log", log + [{"digests": "A" * 64}])
    if "shared" in e:
        shared = e["shared"]
        for name, value in {"size": 0, "index": 4096, "path": ["00" * 48]}.items():
            yield f"shared {name}", change("shared", {**shared, name: value})
        yield "not shared", dump({k: v for k, v in e.items() if k != "shared"})


USAGE = [
    ["nosuch"], ["verify"], ["verify", "a", "b"], ["verify", "--nosuch"], ["verify", "none.json", "--nonce", "00" * 8], ["verify", ".", "--nonce", "00" * 8], ["verify", "large", "--nonce", "00" * 8],
    ["verify", "empty", "--nonce", "00" * 8], ["verify", "-", "--nonce", "-"], ["evidence"], ["evidence", "--nonce"], ["evidence", "--nonce", "xyz"], ["evidence", "--nonce", "00"], ["evidence", "--nonce", "AAAAAAAAAAA="],
    ["evidence", "--nonce", "00" * 65], ["evidence", "--nonce", "00" * 8, "--format", "jwt"], ["evidence", "--nonce", "00" * 8, "--user-data", "large"], ["evidence", "--nonce", "00" * 8, "--user-data", "empty"],
    ["evidence", "--nonce", "00" * 8], ["evidence", "x"], ["report"], ["report", "--nonce", "00" * 8], ["whoami", "extra"], ["whoami"], ["measurements"], ["eventlog"], ["eventlog", "--start", "x"], ["call"], ["call", "a", "b", "c"],
    ["call", "WhoAmI", "{"], ["call", "WhoAmI"], ["--socket", "/run/golden/none/admin.sock", "status"], ["--socket", "", "whoami"], ["convert"], ["convert", "none"], ["convert", "large"], ["convert", "host.json", "--format", "jwt"],
    ["replay"], ["replay", "x"], ["policy", "nosuch"], ["policy", "init"], ["policy", "init", "empty"], ["policy", "init", "large"], ["policy", "init", "host.json"], ["policy", "test"], ["predict"], ["predict", "--config", "none"],
    ["predict", "--config", "host.json"], ["nonce", "x"], ["containers", "x"], ["status", "--metrics", "x"],
]

CONFIGURATIONS = {
    "empty": "", "comment": "# x\n", "no TOML": "x", "unknown": "x = 1\n", "unknown table": "[x]\n", "unknown in a table": "[limits]\nlines = 1\n", "another case": "[Limits]\nline = 2048\n", "twice": "anchor = 'rtmr3'\nanchor = 'rtmr3'\n",
    "anchor": "anchor = 'x'\n", "anchor a number": "anchor = 1\n", "anchor good": "anchor = 'report-data'\n", "isolation": "isolation = 'x'\n", "isolation good": "isolation = 'private'\n",
    "environment": "[launch]\nenvironment = 'values'\n", "labels": "[launch]\nlabels = 'x'\n", "deadline": "[launch]\nimage_deadline = '10'\n", "deadline negative": "[launch]\nimage_deadline = '-1s'\n", "deadline 0": "[launch]\nimage_deadline = '0s'\n",
    "deadline a number": "[launch]\nimage_deadline = 10\n", "IMA": "[ima]\nmode = 'x'\n", "gate": "[gate]\nmode = 'x'\n", "gate's runtimes": "[gate]\nruntimes = ['runc']\n", "exec": "[exec]\nmode = 'x'\n", "exec's source": "[exec]\nsource = 'x'\n",
    "exec, enforce and IMA": "[exec]\nmode = 'enforce'\nsource = 'ima'\n", "exec's size": "[exec]\nmax_size = 1\n",
    **{f"{key} = {value}": f"[limits]\n{key} = {value}\n" for key, values in {
        "line": (1023, 1024, 16777216, 16777217), "reply": (4095, 67108865), "evidence_reply": (65535, 268435457), "connections": (0, 65537), "connections_per_container": (0, 65537), "in_flight": (0, 1025),
        "requests_burst": (0,), "quotes_burst": (0, 1048577), "log_bytes": (1, 65536), "events_per_container": (0,), "requests_per_second": (0, -1, 0.5), "quotes_per_minute": (0, -1), "idle": ("'x'", "'1m'"), "line ": ("'x'",),
    }.items() for value in values},
    "access of nothing": "[[access]]\n", "access of no method": "[[access]]\nallow = ['NoSuch']\n", "access, a glob": "[[access]]\nimage = '['\nallow = ['WhoAmI']\n", "access, a label": "[[access]]\nlabel = 'a=b'\nallow = ['WhoAmI']\n",
    "access good": "[launch]\nlabels = ['a']\n[[access]]\nlabel = 'a=b'\nunit = 'x*'\nallow = ['WhoAmI']\ndeny = ['GetEvidence']\n", "access to an admin's method": "[[access]]\nallow = ['GetStatus']\n",
    "system of nothing": "[[system]]\n", "system of both": "[[system]]\nunit = 'a'\npath = '/a'\n", "system relative": "[[system]]\npath = 'a'\n", "system unclean": "[[system]]\npath = '/a/../b'\n", "system, a glob": "[[system]]\nunit = '['\n",
}

"""A small environment of its own: engines' records, cgroups, callers, and the daemon.

Everything lies below a /run of this process's own mount namespace, and all
processes are in its pid namespace: nothing else on the machine is seen, and all
paths are the same everywhere. What a test sees of the machine is its kernel.
"""

import base64
import ctypes
import glob
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time

PARENT = "CIMA_GOLDEN_CGROUP"  # names the cgroup above all of this run's
ROOT = "/run/golden"
RUNTIME = ROOT + "/runtime"
SERVICE = ROOT + "/service"
IMA = "/sys/kernel/security/integrity/ima"
IMAGE_ID = "sha256:" + "5e" * 32
LONG = 120  # seconds that anything may take on a busy machine


def container_id(n):
    return f"{n:02x}" * 32


def until(what, ready, seconds=LONG):
    """Waits; what is a text, or a function that returns one."""
    end = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)


# Namespaces.

def inside():
    """Prepares the namespaces that unshare(1) made."""
    for d in ("/run", "/var/lib/docker", "/var/lib/containers", "/tmp/cima-golden", "/sys/kernel/security"):
        if not os.path.isdir(d):
            try:
                os.makedirs(d)
            except OSError:
                continue  # a tree without that path
        subprocess.run(["mount", "-t", "tmpfs", "golden", d], check=True)
    for d in (ROOT, IMA, "/run/cima", "/tmp/cima-golden/bind"):
        os.makedirs(d)
    os.chmod(ROOT, 0o755)
    open("/tmp/cima-golden/bind/file", "w").close()
    os.symlink("bind", "/tmp/cima-golden/link")
    # The gate must not hold the machine's runtimes: it marks ours in their
    # place.
    for path in glob.glob("/usr/*bin/*un[c]") + glob.glob("/usr/*bin/[cy]*") + glob.glob("/usr/local/*bin/*"):
        if os.path.basename(path) in ("runc", "crun", "youki"):
            nothing = f"{ROOT}/no-{os.path.basename(path)}"
            open(nothing, "w").close()
            subprocess.run(["mount", "--bind", nothing, os.path.realpath(path)], check=True)
    for path in ("image/proc", "image/run/cima", "empty"):
        os.makedirs(f"{ROOT}/{path}")
    for path in (RUNTIME, SERVICE):
        shutil.copy(os.path.realpath(shutil.which("sleep")), path)
        os.chmod(path, 0o755)


class Cgroup:
    """One cgroup in all hierarchies, below this run's own one."""

    mounts = None

    def __init__(self, parent, name):
        self.parent, self.path = parent, f"/{parent}/{name}"
        if Cgroup.mounts is None:
            found = [os.path.dirname(f) for f in glob.glob("/sys/fs/cgroup/*/cgroup.procs")]
            Cgroup.mounts = ["/sys/fs/cgroup"] if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else found
        for mount in self.mounts:
            made = mount
            for part in self.path.strip("/").split("/"):
                above, made = made, f"{made}/{part}"
                os.makedirs(made, exist_ok=True)
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if os.path.basename(mount) == "cpuset":
                        with open(f"{above}/{file}") as f, open(f"{made}/{file}", "w") as t:
                            t.write(f.read())

    def files(self):
        return [f"{mount}{self.path}/cgroup.procs" for mount in self.mounts]

    def paths(self):
        """The paths as runc writes them to its state."""
        out = {}
        for mount in self.mounts:
            name = os.path.basename(mount)
            if name != "unified":
                out["" if name == "cgroup" else name] = mount + self.path
        return out

    def remove(self):
        for mount in self.mounts:
            for _ in range(500):
                try:
                    os.rmdir(mount + self.path)
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                    continue
                break


def remove_parent(parent):
    for parent in glob.glob(f"/sys/fs/cgroup/{parent}") + glob.glob(f"/sys/fs/cgroup/*/{parent}"):
        for d, _, _ in os.walk(parent, topdown=False):
            for _ in range(200):  # the end of a process takes a moment
                try:
                    os.rmdir(d)
                    break
                except OSError:
                    time.sleep(0.01)


# Callers.

class Caller:
    """A process in a cgroup, in a pid namespace of its own if it is a container's."""

    def __init__(self, cgroup, contained, uid=0, root=None, namespaces=("pid",), fifo=None):
        """root is a root file system of its own; at fifo it waits to be started, as a runtime's init does."""
        self.cgroup = cgroup
        order = json.dumps({"cgroup": cgroup.files() if cgroup else [], "contained": contained, "uid": uid,
                            "root": root, "namespaces": list(namespaces), "fifo": fifo})
        self.process = subprocess.Popen([sys.executable, "-u", os.path.abspath(__file__), order],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = json.loads(self.process.stdout.readline())["pid"]
        json.loads(self.process.stdout.readline())  # it is in its place

    def started(self):
        """Waits until what waited at the FIFO goes on."""
        json.loads(self.process.stdout.readline())

    def _order(self, order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise AssertionError("a caller ended")
        return json.loads(answer)

    def ask(self, path, *lines, replies=None):
        """Sends lines over a connection of their own; the raw replies, "EOF" where it was closed."""
        data = [base64.b64encode(x if isinstance(x, bytes) else x.encode()).decode() for x in lines]
        return self._order({"do": "ask", "path": path, "lines": data, "replies": len(lines) if replies is None else replies})

    def call(self, path, method, params=None):
        request = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            request["params"] = params
        return self.ask(path, json.dumps(request) + "\n")[0]

    def open(self, path, line):
        """Sends a line over a connection that stays, for more."""
        self._order({"do": "open", "path": path, "line": line})

    def more(self, line, replies):
        return self._order({"do": "more", "line": line, "replies": replies})

    def run(self, argv, stdin=b"", env=None):
        a = self._order({"do": "run", "argv": argv, "stdin": base64.b64encode(stdin).decode(), "env": env or {}})
        return a["code"], base64.b64decode(a["out"]), base64.b64decode(a["err"])

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def caller_main(order):
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if order["contained"] and libc.unshare(NAMESPACES["pid"]) != 0:
        sys.exit("unshare")
    started, start = os.pipe()
    pid = os.fork()
    if pid:
        print(json.dumps({"pid": pid}), flush=True)
        os.write(start, b"1")
        os.waitpid(pid, 0)
        return
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    for file in order["cgroup"]:
        with open(file, "w") as f:
            f.write("0")
    if order["uid"]:
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    os.read(started, 1)
    os.close(started)
    os.close(start)
    if order["root"]:
        started, start = os.pipe()
        worker = os.fork()
        if worker:
            first_process(libc, order, start)
            os.waitpid(worker, 0)
            return
        # A process of the container that needs the host's files: it is in the
        # container's cgroup and pid namespace, which is what the daemon looks at.
        libc.setns(outside, NAMESPACES["mount"])
        os.read(started, 1)
    else:
        print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        o = json.loads(line)
        if o["do"] == "run":
            p = subprocess.run(o["argv"], input=base64.b64decode(o["stdin"]), capture_output=True,
                               env={"PATH": os.environ["PATH"], **o["env"]}, cwd=ROOT + "/files")
            a = {"code": p.returncode, "out": base64.b64encode(p.stdout).decode(), "err": base64.b64encode(p.stderr).decode()}
        elif o["do"] == "open":
            kept = socket.socket(socket.AF_UNIX)
            kept.settimeout(LONG)
            kept.connect(o["path"])
            kept.sendall(o["line"].encode())
            a = {}
        elif o["do"] == "more":
            if o["line"]:
                kept.sendall(o["line"].encode())
            a = received(kept, o["replies"])
        else:
            a = ask(o["path"], [base64.b64decode(x) for x in o["lines"]], o["replies"])
        print(json.dumps(a), flush=True)


NAMESPACES = {"mount": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "network": 0x40000000}


def first_process(libc, order, start):
    """What a runtime makes of a container's first process; then it waits to be started."""
    fifo = os.open(order["fifo"], os.O_PATH) if order["fifo"] else None
    os.dup2(os.open(os.devnull, os.O_RDWR), 2)  # what this program's is may be a file
    if libc.unshare(sum(NAMESPACES[n] for n in order["namespaces"] if n != "pid")) != 0:
        sys.exit("unshare")
    enter(libc, order["root"])
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    libc.capset(struct.pack("<Ii", 0x20080522, 0), bytes(24))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    print(json.dumps({"ready": True}), flush=True)
    if fifo is not None:
        os.close(os.open(f"/proc/self/fd/{fifo}", os.O_WRONLY))  # as runc does; until it is read
        os.close(fifo)
        print(json.dumps({"started": True}), flush=True)
    os.write(start, b"1")


def enter(libc, root):
    """Makes a mount point of the host's the root of this process's mount namespace, with proc and cima's directory."""
    def mount(source, target, kind, flags):
        if libc.mount(source.encode(), target.encode(), kind.encode(), flags, None) != 0:
            sys.exit(f"mount {target}: {os.strerror(ctypes.get_errno())}")

    mount("none", "/", "", 0x40000 | 0x4000)  # MS_PRIVATE | MS_REC
    mount("proc", root + "/proc", "proc", 2 | 4 | 8)
    parts = [root + "/proc/" + name for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
    for source, target in [("/run/cima", root + "/run/cima"), *((part, part) for part in parts if os.path.exists(part))]:
        mount(source, target, "", 0x1000)  # MS_BIND
        mount(source, target, "", 0x1000 | 0x20 | 1)  # MS_REMOUNT | MS_RDONLY
    os.chdir(root)
    if libc.pivot_root(b".", b".") != 0 or libc.umount2(b".", 2) != 0:  # MNT_DETACH
        sys.exit(f"pivot_root: {os.strerror(ctypes.get_errno())}")
    os.chdir("/")


def ask(path, lines, replies):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LONG)
        s.connect(path)
        try:
            s.sendall(b"".join(lines))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the connection was closed before everything was sent; the reply has the reason
        return received(s, replies)


def received(s, replies):
    out, rest = [], b""
    while len(out) < replies:
        line, newline, after = rest.partition(b"\n")
        if newline:
            out.append(line.decode())
            rest = after
            continue
        try:
            more = s.recv(1 << 20)
        except ConnectionResetError:
            more = b""
        if not more:
            out.append("EOF" if not rest else "CUT " + rest.decode())
            break
        rest += more
    return out


# The engine.

class Engine(socketserver.ThreadingUnixStreamServer):
    """Docker's API, as far as the daemon uses it."""

    daemon_threads = True

    def __init__(self, path):
        self.images, self.broken = {}, set()
        super().__init__(path, EngineRequest)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, *_):
        pass  # the client has gone


class EngineRequest(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "engine"

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        body, code = {"message": "no such thing"}, 404
        if parts[-3:-2] == ["containers"] and parts[-1] == "json":
            if parts[-2] in self.server.broken:
                body, code = {"message": "out of order"}, 500
            elif parts[-2] in self.server.images:
                body, code = {"Id": parts[-2], "Image": IMAGE_ID, "Config": {"Image": self.server.images[parts[-2]]}}, 200
        elif parts[-3:-2] == ["images"] and parts[-1] == "json":
            body, code = {"Id": IMAGE_ID, "RepoTags": ["golden/app:1"],
                          "RootFS": {"Layers": ["sha256:" + "1a" * 32, "sha256:" + "2b" * 32]}}, 200
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


# IMA's log, binary.

def ima_entry(template, pcr, *fields):
    data = b"".join(struct.pack("<I", len(f)) + f for f in fields)
    return (struct.pack("<I", pcr) + hashlib.sha1(data).digest() + struct.pack("<I", len(template)) + template.encode()
            + struct.pack("<I", len(data)) + data)


def ima_ng(path, content, algorithm="sha256"):
    return ima_entry("ima-ng", 10, algorithm.encode() + b":\0" + hashlib.new(algorithm, content).digest(), path.encode() + b"\0")


def ima_cgpath(cgroup, path, content, algorithm="sha384"):
    return ima_entry("ima-cgpath", 10, b"swapper/0\0", cgroup.encode() + b"\0",
                     algorithm.encode() + b":\0" + hashlib.new(algorithm, content).digest(), path.encode() + b"\0")


def ima_violation(cgroup, path):
    entry = ima_entry("ima-cgpath", 10, b"swapper/0\0", cgroup.encode() + b"\0", b"sha384:\0" + bytes(48), path.encode() + b"\0")
    return entry[:4] + bytes(20) + entry[24:]


def ima_log(entries, new=False):
    count = f"{IMA}/runtime_measurements_count"
    had = 0
    if not new:
        with open(count) as f:
            had = int(f.read())
    with open(f"{IMA}/binary_runtime_measurements", "wb" if new else "ab") as f:
        f.write(b"".join(entries))
    with open(count, "r+" if os.path.exists(count) else "w") as f:
        f.write(f"{had + len(entries)}\n")
        f.truncate()


# The daemon.

def untagged(raw):
    """The data of a TCG tagged event in AAEL's form."""
    if raw[:4] != b"LEAA" or struct.unpack("<I", raw[4:8])[0] != len(raw) - 8:
        return b"NO TAGGED EVENT: " + raw.hex().encode()
    return raw[8:]


class TD:
    """A simulated TD, which outlives daemons."""

    def __init__(self, program, directory, *flags):
        self.socket = directory + "/td.sock"
        self.root = directory + "/root.pem"
        self.process = subprocess.Popen([program, "td", "--dir", directory, *flags], stdout=subprocess.DEVNULL)
        until("the TD", lambda: os.path.exists(self.root) and os.path.exists(self.socket) and b"END" in open(self.root, "rb").read())

    def do(self, **request):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(LONG)
            s.connect(self.socket)
            s.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(s.makefile().readline())

    def end(self):
        self.process.kill()
        self.process.wait()


class Daemon:
    def __init__(self, program, name, config, *flags, ready=True):
        self.dir = f"{ROOT}/{name}"
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        self.program = program
        self.config = f"{self.dir}/cimad.toml"
        with open(self.config, "w") as f:
            f.write(config)
        self.td = TD(program, self.dir + "/td", *flags)
        self.socket, self.admin = self.dir + "/cima/cima.sock", self.dir + "/cima-admin/admin.sock"
        self.log = self.dir + "/log/cima/runtime.log"
        self.journal = self.dir + "/journal"
        self.start(ready)

    def start(self, ready=True):
        for path in (self.socket, self.admin):
            if os.path.exists(path):
                os.unlink(path)
        # Containers mount /run/cima: it must be what this daemon serves.
        os.makedirs(self.dir + "/cima", mode=0o755, exist_ok=True)
        if not os.path.ismount(self.dir + "/cima"):
            subprocess.run(["mount", "--bind", "/run/cima", self.dir + "/cima"], check=True)
        with open(self.journal, "a") as journal:
            self.process = subprocess.Popen([self.program, "--td", self.td.socket, "--runtime-dir", self.dir, "--config", self.config],
                                            stderr=journal, stdout=journal)
        until("the daemon's sockets", lambda: self.answers(), 30)
        if ready:
            self.events(3)

    def answers(self):
        if self.process.poll() is not None:
            with open(self.journal) as f:
                raise AssertionError("the daemon ended: " + f.read()[-2000:])
        return os.path.exists(self.admin)

    def lines(self):
        """The complete lines of the log on disk, without its header."""
        try:
            with open(self.log) as f:
                text = f.read()
        except FileNotFoundError:
            return []
        return text.split("\n")[1:-1]

    def events(self, count=0):
        """The events of the log, when there are that many."""
        lines = until(f"{count} events, there are {len(self.lines())}", lambda: len(self.lines()) >= count and (self.lines() or [""]))
        return [untagged(base64.b64decode(json.loads(x)["event"])) for x in lines if x]

    def find(self, what, operation, test=lambda e: True):
        def logged():
            with open(self.journal) as f:
                return f"{what}; the log: {self.events()}; the journal: {f.read()[-3000:]}"

        return until(logged, lambda: [e for e in self.events() if e.startswith(b"cima " + operation.encode() + b" ") and test(e)])

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def end(self):
        self.stop()
        self.td.end()


# Containers.

class Container:
    """A container with the files that docker and runc make."""

    def __init__(self, world, number, config, image="golden/app:1", podman=False):
        self.world, self.id = world, container_id(number)
        self.bundle = f"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{self.id}"
        self.state = f"/run/docker/runtime-runc/moby/{self.id}/state.json"
        if podman:
            self.bundle = f"/run/containers/storage/overlay-containers/{self.id}/userdata"
            self.state = f"/run/runc/{self.id}/state.json"
        self.cgroup = Cgroup(world.parent, self.id)
        self.caller = None
        if image:
            world.engine.images[self.id] = image
        self.gated, self.root, self.namespaces = False, None, ("pid",)
        os.makedirs(self.bundle)
        if podman:
            os.makedirs("/var/lib/containers/storage/overlay-containers", exist_ok=True)
        if isinstance(config, dict) and config.get("root") == {"path": "rootfs"}:
            self.root = f"/var/lib/docker/overlay2/{self.id}/merged"  # where the engine keeps it
            if podman:
                self.root = f"/var/lib/containers/storage/overlay/{self.id}/merged"
                with open("/var/lib/containers/storage/overlay-containers/containers.json", "w") as f:
                    json.dump([{"id": self.id, "layer": self.id}], f)
            config = {**config, "root": {"path": self.root}}
            self.namespaces = [n["type"] for n in config["linux"]["namespaces"]]
            os.makedirs(self.root)
            subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={ROOT}/image:{ROOT}/empty", "golden", self.root], check=True)
        if isinstance(config, dict):
            config = {**config, "linux": {**config.get("linux", {}), "cgroupsPath": self.cgroup.path}}
            config = json.dumps(config, ensure_ascii=False)
        with open(self.bundle + "/.config", "w", encoding="utf-8") as f:
            f.write(config)
        os.rename(self.bundle + "/.config", self.bundle + "/config.json")

    def gate(self):
        """Executes the runtime, as containerd's shim does to create a container."""
        subprocess.run([RUNTIME, "0"], cwd=self.bundle, check=True)
        self.gated = self.root is not None

    def start(self):
        """Starts the first process. If the container was gated, it waits for the runtime, which is executed to start it."""
        fifo = os.path.dirname(self.state) + "/exec.fifo" if self.gated else None
        os.makedirs(os.path.dirname(self.state))
        if fifo:
            os.mkfifo(fifo)
        self.caller = Caller(self.cgroup, True, root=self.root, namespaces=self.namespaces, fifo=fifo)
        with open(f"/proc/{self.caller.pid}/stat") as f:
            began = int(f.read().rsplit(")", 1)[1].split()[19])
        with open(self.state + ".new", "w") as f:
            json.dump({"id": self.id, "init_process_pid": self.caller.pid, "init_process_start": began,
                       "cgroup_paths": self.cgroup.paths()}, f)
        os.rename(self.state + ".new", self.state)
        if fifo:
            subprocess.run([RUNTIME, "start", self.id], stderr=subprocess.DEVNULL)  # sleep refuses that, once it is let go
            with open(fifo):
                os.unlink(fifo)
            self.caller.started()

    def end(self):
        if self.caller:
            self.caller.end()
            self.caller = None
        if self.root:
            subprocess.run(["umount", "--lazy", self.root], check=True)
            shutil.rmtree(os.path.dirname(self.root))
        shutil.rmtree(self.bundle, ignore_errors=True)
        shutil.rmtree(os.path.dirname(self.state), ignore_errors=True)
        self.cgroup.remove()


def bundle(**more):
    """A config.json as docker writes it, in short; more replaces members of "process" and the top."""
    process = {"user": {"uid": 0, "gid": 0}, "args": ["/app", "--flag", "<&> ☃"], "cwd": "/",
               "env": ["PATH=/bin", "HOSTNAME=0123456789ab", "LANG=C.UTF-8"], "noNewPrivileges": True}
    config = {"ociVersion": "1.0.2", "process": process, "root": {"path": "rootfs"}, "hostname": "x",
              "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                         {"destination": "/run/cima", "type": "bind", "source": "/run/cima", "options": ["rbind", "ro", "rprivate"]}],
              "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}, "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                                                                        "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                        "namespaces": [{"type": t} for t in ("mount", "network", "uts", "pid", "ipc")]}}
    for name, value in more.items():
        if name in ("linux",):
            config[name].update(value)
        elif name in ("annotations", "mounts"):
            config[name] = value if name == "annotations" else config[name] + value
        else:
            process[name] = value
    return config


class World:
    def __init__(self, sim, ctl):
        self.sim, self.ctl = sim, ctl
        self.parent = os.environ[PARENT]
        self.engine = Engine("/run/docker.sock")
        self.service = subprocess.Popen([SERVICE, "100000"])
        self.host = Caller(Cgroup(self.parent, "golden.service"), False)

    def close(self):
        self.service.kill()
        self.service.wait()
        self.host.end()


if __name__ == "__main__":
    caller_main(json.loads(sys.argv[1]))

#!/usr/bin/env python3
"""Captures config.json of many command lines, as docker and podman write it.

Root. Everything that the engines keep (/run, /var/lib/docker, /var/lib/containers)
lies in a mount namespace of this program's own, so no engine of the machine is
seen or changed, and all paths are the engines' usual ones.
"""

import glob
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time

sys.dont_write_bytecode = True

import interned
import world

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = "golden/app:1"
KEY = "CIMA_GOLDEN_CAPTURE"

# Options of "docker run", before the image; "|" divides them from the command.
BOTH = """
| sleep 60
| sh -c "sleep 60"
-e A=1 -e B= -e "C=a b" | sleep 60
-e LANG=C.UTF-8 -e "U=grün ☃ <&>" | sleep 60
--env-file @env | sleep 60
-u 1000 | sleep 60
-u 1000:100 --group-add 20 --group-add 5 | sleep 60
-u daemon | sleep 60
-w /tmp | sleep 60
--entrypoint /bin/sleep | 60
--entrypoint "" | /bin/sleep 60
--hostname somehost | sleep 60
--add-host a:10.0.0.1 | sleep 60
--read-only | sleep 60
--read-only --tmpfs /tmp | sleep 60
--tmpfs /scratch:rw,size=1m,mode=1770 | sleep 60
--tmpfs /run:exec | sleep 60
-v data:/data | sleep 60
-v data:/data:ro -v other:/other | sleep 60
-v /anonymous | sleep 60
-v /tmp/cima-golden/bind:/bind | sleep 60
-v /tmp/cima-golden/bind:/bind:ro | sleep 60
-v /tmp/cima-golden/bind/file:/etc/motd:ro | sleep 60
-v /tmp/cima-golden/bind:/bind:rw,rshared | sleep 60
-v /tmp/cima-golden/link:/bind | sleep 60
-v /:/host | sleep 60
-v /:/host:ro | sleep 60
-v /etc:/host/etc -v /proc:/host/proc:ro | sleep 60
-v /sys:/host/sys | sleep 60
-v /dev:/dev | sleep 60
-v /run:/run | sleep 60
-v /run/docker.sock:/run/docker.sock | sleep 60
-v /run/cima:/run/cima:ro | sleep 60
-v /run/cima:/run/cima | sleep 60
-v /var/lib/docker:/d -v /var/lib/containers:/c | sleep 60
--mount type=bind,source=/tmp/cima-golden/bind,target=/m,readonly | sleep 60
--mount type=bind,source=/tmp/cima-golden/bind,target=/m,bind-propagation=rslave | sleep 60
--mount type=volume,source=data,target=/m | sleep 60
--mount type=volume,target=/m | sleep 60
--mount type=tmpfs,target=/m,tmpfs-size=65536,tmpfs-mode=0700 | sleep 60
--cap-drop ALL | sleep 60
--cap-drop ALL --cap-add NET_BIND_SERVICE --cap-add CHOWN | sleep 60
--cap-add SYS_ADMIN | sleep 60
--cap-add NET_ADMIN --cap-add SYS_PTRACE | sleep 60
--cap-add ALL | sleep 60
--privileged | sleep 60
--privileged -u 1000 | sleep 60
--device /dev/null:/dev/xnull | sleep 60
--device /dev/zero:/dev/xzero:r --device-cgroup-rule "c 42:* rmw" | sleep 60
--device-cgroup-rule "b 8:1 r" --device-cgroup-rule "c *:* m" | sleep 60
--network host | sleep 60
--network container:peer | sleep 60
--pid host | sleep 60
--pid container:peer | sleep 60
--ipc host | sleep 60
--ipc private | sleep 60
--ipc container:peer | sleep 60
--uts host | sleep 60
--userns host | sleep 60
--cgroupns host | sleep 60
--cgroupns private | sleep 60
--network host --pid host --ipc host --uts host | sleep 60
--security-opt no-new-privileges | sleep 60
--security-opt seccomp=unconfined | sleep 60
--security-opt seccomp=@seccomp | sleep 60
--security-opt seccomp=@allow | sleep 60
--security-opt apparmor=unconfined | sleep 60
--sysctl net.ipv4.ip_unprivileged_port_start=80 --sysctl net.ipv4.ping_group_range="0 0" | sleep 60
--sysctl kernel.msgmax=65536 | sleep 60
--ulimit nofile=64:128 --ulimit nproc=32 --ulimit core=0 | sleep 60
--memory 64m --memory-swap 64m --memory-reservation 32m | sleep 60
--cpus 0.5 --cpu-shares 100 | sleep 60
--cpuset-cpus 0 --cpu-period 50000 --cpu-quota 25000 | sleep 60
--pids-limit 50 --oom-score-adj 100 | sleep 60
--shm-size 1m | sleep 60
--init | sleep 60
-t | sleep 60
-i | sleep 60
--label a=b --label "c=d e" | sleep 60
--label com.docker.compose.project=p --label com.docker.compose.service=s --label com.docker.compose.container-number=1 -v p_data:/data | sleep 60
--cgroup-parent /golden-parent | sleep 60
--volumes-from peer | sleep 60
--stop-signal SIGINT --stop-timeout 3 | sleep 60
--no-healthcheck --restart no | sleep 60
"""
DOCKER = """
--hostname somehost --domainname example.org | sleep 60
-w /made/new | sleep 60
--security-opt systempaths=unconfined | sleep 60
--log-driver none --health-cmd true --health-interval 30s | sleep 60
--isolation default --platform linux/amd64 | sleep 60
--ipc shareable | sleep 60
--mount type=bind,source=/tmp/cima-golden/bind,target=/m,bind-recursive=disabled | sleep 60
--mount type=volume,source=data,target=/m,volume-nocopy,volume-subpath=sub | sleep 60
--runtime runc --log-opt max-size=1m | sleep 60
"""
PODMAN = """
--secret secret | sleep 60
--secret secret,type=env,target=TOKEN | sleep 60
--systemd always | sleep 60
--systemd false --no-hosts | sleep 60
--security-opt label=disable | sleep 60
--security-opt label=type:spc_t | sleep 60
--security-opt mask=/proc/meminfo | sleep 60
--security-opt unmask=ALL | sleep 60
--security-opt unmask=/proc/sys | sleep 60
--security-opt proc-opts=hidepid=2 | sleep 60
--userns auto:size=1000 | sleep 60
--uidmap 0:100000:1000 --gidmap 0:100000:1000 | sleep 60
--umask 0077 | sleep 60
--annotation org.example.x=y | sleep 60
--annotation run.oci.handler=x --annotation run.oci.systemd.subgroup=y | sleep 60
--tz UTC | sleep 60
--http-proxy=false --env-host=false | sleep 60
-v data:/data:U -v /tmp/cima-golden/bind:/bind:Z | sleep 60
-v /tmp/cima-golden/bind:/bind:O | sleep 60
--mount type=image,source=golden/app:1,destination=/image | sleep 60
--mount type=devpts,destination=/dev/pts2 | sleep 60
--image-volume tmpfs | sleep 60
--cgroups disabled | sleep 60
--cgroups no-conmon | sleep 60
--pod new:golden-pod | sleep 60
--rootfs /tmp/cima-golden/rootfs | /bin/sleep 60
--replace --name fixed --read-only --read-only-tmpfs=false | sleep 60
"""


def cases(text):
    import shlex
    for line in filter(None, text.splitlines()):
        options, _, command = line.partition("|")
        yield line.replace(" | ", " IMAGE ").lstrip("| ").strip(), shlex.split(options), shlex.split(command)


def image_tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        def add(name, data=None, link=None, mode=0o755):
            info = tarfile.TarInfo(name)
            info.mode = mode
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif data is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data or b""))
        for d in ("bin", "etc", "tmp", "data", "data/sub", "dev", "proc", "sys", "run", "var", "m"):
            add(d)
        with open(shutil.which("busybox"), "rb") as f:
            add("bin/busybox", f.read())
        for name in ("sh", "sleep"):
            add("bin/" + name, link="busybox")
        add("etc/passwd", b"root:x:0:0::/:/bin/sh\ndaemon:x:2:2::/:/bin/sh\n", mode=0o644)
        add("etc/group", b"root:x:0:\ndaemon:x:2:\n", mode=0o644)
        add("etc/motd", b"", mode=0o644)
    return out.getvalue()


def prepare():
    for d in ("/tmp/cima-golden", "/run", "/var/lib/docker", "/var/lib/containers"):
        os.makedirs(d, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "golden", d], check=True)
    subprocess.run(["mount", "--make-shared", "/tmp/cima-golden"], check=True)
    os.makedirs("/tmp/cima-golden/bind")
    os.makedirs("/run/cima")
    os.makedirs("/run/lock")
    open("/tmp/cima-golden/bind/file", "w").close()
    os.symlink("bind", "/tmp/cima-golden/link")
    rules = [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]
    for name, text in (("env", "X=1\nY=two words\n"), ("secret", "hush"),
                       ("seccomp", json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                           {"names": "read write open execve mmap mprotect brk futex nanosleep exit_group".split(), "action": "SCMP_ACT_ALLOW"}]})),
                       ("allow", json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))):
        with open("/tmp/cima-golden/" + name, "w") as f:
            f.write(text)
    os.makedirs("/tmp/cima-golden/rootfs")
    with tarfile.open(fileobj=io.BytesIO(image_tar())) as tar:
        tar.extractall("/tmp/cima-golden/rootfs")


def run(*args, **more):
    return subprocess.run(args, capture_output=True, text=not isinstance(more.get("input"), bytes), timeout=90, **more)


def start_docker():
    log = open(os.path.join(os.environ[KEY], "dockerd.log"), "w")
    daemon = subprocess.Popen(["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
                               "--group", "root", "-H", "unix:///run/docker.sock"], stdout=log, stderr=log)
    for _ in range(120):
        if run("docker", "version").returncode == 0:
            return daemon
        time.sleep(0.5)
    sys.exit("dockerd does not answer: see dockerd.log")


def captured(engine, found):
    """Runs every command line; yields the config.json of each."""
    if engine == "podman":
        with open("/tmp/cima-golden/containers.conf", "w") as f:
            f.write('[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n')
        os.environ["CONTAINERS_CONF"] = "/tmp/cima-golden/containers.conf"
        run("podman", "secret", "create", "secret", "/tmp/cima-golden/secret")
    imported = run(engine, "import", "-", IMAGE, input=image_tar())
    if imported.returncode:
        sys.exit(f"{engine} import: {imported.stderr}")
    net = ["--network", "none"]
    now = ["-t", "0"] if engine == "podman" else []
    usual = ["--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000"] if engine == "podman" else []
    peer = run(engine, "run", "-d", "--name", "peer", "-v", "shared:/shared", "-v", "/from", *net, *usual, "--ipc", "shareable", IMAGE, "sleep", "6000")
    if peer.returncode:
        sys.exit(f"{engine}: {peer.stderr}")
    for name, options, command in cases(BOTH + (DOCKER if engine == "docker" else PODMAN)):
        options = [o.replace("@", "/tmp/cima-golden/") if "@" in o else o for o in options]
        if "--network" not in options and "--pod" not in options:
            options = net + options
        if "--ulimit" not in options:
            options = usual + options
        image = [] if "--rootfs" in options else [IMAGE]
        if "--rootfs" in options:
            at = options.index("--rootfs")
            options, image = options[:at] + ["--rootfs"] + options[at + 2:], [options[at + 1]]
        made = run(engine, "create", *options, *image, *command)
        ids = made.stdout.split()
        if made.returncode or not ids:
            print(f"{engine}: left out, not created: {name}: {made.stderr.strip()[-200:]}", file=sys.stderr)
            continue
        container = ids[-1]
        starting = subprocess.Popen([engine, "start", container], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        text = None
        until = time.time() + 20
        while text is None and time.time() < until:
            for path in glob.glob(found.format(container)):
                try:
                    with open(path) as f:
                        text = f.read()
                    json.loads(text)
                except (OSError, ValueError):
                    text = None
            if text is None and starting.poll() is not None and starting.returncode:
                break
            time.sleep(0.005)
        error = starting.communicate()[1]
        if text is None:
            print(f"{engine}: left out, no config.json: {name}: {error.strip()[-200:]}", file=sys.stderr)
        else:
            if starting.returncode:
                print(f"{engine}: captured, but not started: {name}: {error.strip()[-200:]}", file=sys.stderr)
            yield {"name": f"{engine} run {name}", "engine": engine, "id": container, "config": json.loads(text)}
        run(engine, "rm", *now, "-f", "-v", container)
    run(engine, "rm", *now, "-f", "-v", "peer")
    if engine == "podman":
        run("podman", "pod", "rm", "-f", "-a")


def capture(out):
    prepare()
    rows = []
    daemon = start_docker()
    try:
        rows += captured("docker", "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{}/config.json")
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("/run/docker.sock")
    rows += captured("podman", "/var/lib/containers/storage/overlay-containers/{}/userdata/config.json")
    interned.write(out, rows, least=60)
    print(f"{len(rows)} command lines in {out}: {os.path.getsize(out)} bytes", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: capture.py FILE")
    if KEY not in os.environ:
        scratch = os.path.abspath(os.path.dirname(sys.argv[1]) or ".")
        code = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable,
                               os.path.abspath(__file__), os.path.abspath(sys.argv[1])], env={**os.environ, KEY: scratch}).returncode
        world.remove_parent("golden-parent")
        sys.exit(code)
    capture(sys.argv[1])

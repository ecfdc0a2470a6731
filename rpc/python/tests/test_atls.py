"""Attested TLS: the tree, the opening of sessions, and cimactl at the other end."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple, cast
from unittest import mock

from cima_client import Client, Code, RPCError, Shared
from cima_client import atls, parts, tree

from stage import ROOT, Simulator
from test_shared import path
from test_shared import tree as root_of


BOUND = tree.of("https://example.org/key/v1", b"x")
NOTHING = b"\x05\x00\x00\x00\x34" + parts.NOTHING


class Fake:
    """A session of TLS by a socket: both ends export the same values."""

    def __init__(self, link: socket.socket, secret: bytes) -> None:
        self.link, self.secret = link, secret
        self.ended, self.came = 0, 0
        self.protocol, self.version = atls.PROTOCOL, "TLSv1.3"

    def export_keying_material(self, label: bytes, olen: int, context: Optional[bytes] = None) -> bytes:
        return hashlib.sha512(self.secret + label + b"\x00" + (context or b"")).digest()[:olen]

    def recv(self, bufsiz: int) -> bytes:
        some = self.link.recv(bufsiz)
        self.came += len(some)
        if not some and self.ended:
            raise RuntimeError("close_notify")
        return some

    def sendall(self, buf: bytes) -> int:
        self.link.sendall(buf)
        return len(buf)

    def get_alpn_proto_negotiated(self) -> bytes:
        return self.protocol

    def get_protocol_version_name(self) -> str:
        return self.version

    def get_shutdown(self) -> int:
        return self.ended


class Daemon:
    """Gives what stands for evidence, once ``go`` is set."""

    def __init__(self, name: str = "a") -> None:
        self.name, self.calls = name, 0
        self.errors: List[Exception] = []
        self.logs = ["x" * 1000]
        self.go = threading.Event()
        self.go.set()

    def call(self, method: str, params: Dict[str, Any]) -> Any:
        self.calls += 1
        self.go.wait()
        if self.errors:
            raise self.errors.pop()
        claims = {"container": {"id": self.name}}
        said = {"claims": claims, "bound": [params["nonce"].hex(), params["user_data"].decode()], "boot_log": "b", "runtime_log": self.logs}
        return SimpleNamespace(text=json.dumps(said))

    def prover(self) -> tree.Prover:
        return tree.Prover(cast(Client, self))


def only(name: str) -> atls.Appraise:
    def appraise(evidence: bytes, nonce: bytes, user_data: bytes) -> None:
        got = json.loads(evidence)
        if got["claims"] != {"container": {"id": name}} or got["bound"] != [nonce.hex(), user_data.decode()]:
            raise atls.AttestationError("refused")

    return appraise


def pair(other: bytes = b"secret") -> Tuple[Fake, Fake]:
    a, b = socket.socketpair()
    a.settimeout(30)
    b.settimeout(30)
    return Fake(a, b"secret"), Fake(b, other)


class Accepting(threading.Thread):
    """The server's end in a thread: greets, then echoes once."""

    def __init__(self, session: Fake, prover: tree.Prover, appraise: Optional[atls.Appraise] = None) -> None:
        super().__init__()
        self.session, self.prover, self.appraise = session, prover, appraise
        self.error: Optional[Exception] = None
        self.start()

    def run(self) -> None:
        try:
            stream = atls.accept(self.session, self.prover, self.appraise)
            stream.sendall(b"hello")
            stream.sendall(stream.recv())
        except Exception as error:
            self.error = error
        finally:
            self.session.link.close()


class TreeTest(unittest.TestCase):
    def test_places(self) -> None:
        for size in [*range(1, 20), 33]:
            leaves = [hashlib.sha512(bytes([i])).digest() for i in range(size)]
            t = tree.Tree(leaves)
            self.assertEqual(t.root, root_of(leaves))
            for i, own in enumerate(leaves):
                self.assertEqual(t.shared(i), Shared(size, i, tuple(path(i, leaves))))
                self.assertEqual(t.shared(i).root(own), t.root)
        for wrong in (0, 4097):
            with self.assertRaises(ValueError):
                tree.Tree([bytes(64)] * wrong)


class SessionTest(unittest.TestCase):
    def test_both_ways(self) -> None:
        near, far = pair()
        server = Accepting(far, Daemon().prover())
        stream = atls.connect(near, only("a"))
        self.assertEqual(stream.recv(), b"hello")
        stream.sendall(b"x" * atls._MAX_DATA)
        got = b""
        while len(got) < atls._MAX_DATA:
            got += stream.recv(1000)
        self.assertEqual(got, b"x" * atls._MAX_DATA)
        near.link.close()
        server.join()

    def test_mutual(self) -> None:
        for name, want in (("b", b"hello"), ("c", b"")):
            near, far = pair()
            server = Accepting(far, Daemon("a").prover(), only("b"))
            stream = atls.connect(near, only("a"), Daemon(name).prover())
            if want:
                self.assertEqual(stream.recv(), want)
                stream.sendall(b"x")
                self.assertEqual(stream.recv(), b"x")
            else:
                with self.assertRaises((atls.AttestationError, OSError)):
                    stream.recv()
            near.link.close()
            server.join()
            self.assertEqual(isinstance(server.error, atls.AttestationError), not want)

    def test_refused(self) -> None:
        for secret, name in ((b"a relay's other session", "a"), (b"secret", "another container")):
            near, far = pair(secret)
            server = Accepting(far, Daemon(name).prover())
            with self.assertRaises(atls.AttestationError):
                atls.connect(near, only("a"))
            near.link.close()
            server.join()
        near, far = pair()
        server = Accepting(far, Daemon().prover(), only("a"))
        with self.assertRaisesRegex(atls.AttestationError, "none to give"):
            atls.connect(near, only("a"))
        near.link.close()
        server.join()
        for change in ({"version": "TLSv1.2"}, {"protocol": b"h2"}):
            near, far = pair()
            vars(far).update(change)
            server = Accepting(far, Daemon().prover())
            near.sendall(b"\x02\x00\x00\x00\x20" + bytes(32))
            server.join()
            self.assertIsInstance(server.error, atls.AttestationError)
            near.link.close()

    def test_frames(self) -> None:
        nonce = b"\x02\x00\x00\x00\x20" + bytes(32)
        for wrong, want in (
            (b"GET /", "a frame of the kind 71"),
            (b"\x02\x00\x00\x00\x1f", "a frame of the kind 2 with 31 bytes"),
            (b"\x01\x00\x00\x00\x00", "a frame of the kind 1 with 0 bytes"),
            (b"\x01\x00\x00\x3f\xfc", "a frame of the kind 1 with 16380 bytes"),
            (b"\x04\x00\x04\x00\x01", "a frame of the kind 4"),
            (b"\x05\x00\x00\x00\x33", "a frame of the kind 5"),
            (b"\x06\x01\x80\x00\x01", "a frame of the kind 6"),
            (b"\x07\x00\x00\x00\x01", "a frame of the kind 7"),
            (NOTHING, "must begin with a nonce"),
            (nonce + b"\x05\x00\x00\x00\x34" + b"\xff" * 52, "at most 2097152 pieces"),
            (nonce + NOTHING + NOTHING, "the logs of no report"),
            (b"\x01\x00\x00\x00\x01x", "must begin with a nonce"),
            (b"\x02\x00", "cut off"),
            (nonce + nonce, "of the kind 5 now, not of 2"),
            (nonce + NOTHING + nonce, "too soon"),
            (nonce + NOTHING + b"\x03\x00\x00\x00\x01x", "nobody asked for"),
        ):
            near, far = pair()
            daemon = Daemon()
            server = Accepting(far, daemon.prover())
            near.sendall(wrong)
            near.link.shutdown(socket.SHUT_WR)
            server.join()
            with self.assertRaisesRegex(atls.AttestationError, want):
                if server.error is not None:
                    raise server.error
            self.assertLessEqual(daemon.calls, 1)
            near.link.close()

    def test_ends(self) -> None:
        for ended in (0, 2):
            near, far = pair()
            server = Accepting(far, Daemon().prover())
            stream = atls.connect(near, only("a"))
            self.assertEqual(stream.recv(), b"hello")
            near.ended = ended
            far.link.shutdown(socket.SHUT_WR)
            if ended:
                self.assertEqual(stream.recv(), b"")
            else:
                with self.assertRaisesRegex(atls.AttestationError, "cut off"):
                    stream.recv()
            near.link.close()
            server.join()

    def test_logs_travel_once(self) -> None:
        daemon, known = Daemon(), atls.Known()
        prover = daemon.prover()
        for new, least, most in (("", 1000, 1500), ("", 0, 900), ("y" * 1000, 1000, 1900), ("", 0, 900)):
            daemon.logs += [new] if new else []
            near, far = pair()
            server = Accepting(far, prover)
            stream = atls.connect(near, only("a"), known=known)
            self.assertTrue(least <= near.came <= most, near.came)
            self.assertEqual(stream.recv(), b"hello")
            near.link.close()
            server.join()
        for name in ("b", "a"):  # what was refused isn't kept, nor is another container's taken
            near, far = pair()
            server = Accepting(far, Daemon("b").prover())
            fresh = atls.Known()
            try:
                atls.connect(near, only(name), known=fresh)
            except atls.AttestationError:
                self.assertEqual((name, len(fresh._logs)), ("a", 0))
            near.link.close()
            server.join()

    def test_one_quote_for_all_that_wait(self) -> None:
        daemon = Daemon()
        daemon.go.clear()
        prover = daemon.prover()
        servers: List[Accepting] = []
        ends = [pair() for _ in range(21)]

        def begin(near: Fake, far: Fake) -> None:
            servers.append(Accepting(far, prover))
            near.sendall(b"\x02\x00\x00\x00\x20" + bytes(32) + NOTHING)

        begin(*ends[0])
        while daemon.calls == 0:
            time.sleep(0.001)
        for near, far in ends[1:]:
            begin(near, far)
        while prover._next is None or len(prover._next.leaves) < 20:
            time.sleep(0.001)
        daemon.go.set()
        for near, _ in ends:
            while near.recv(1 << 16)[-5:] != b"hello":
                time.sleep(0.001)
            near.link.close()
        for server in servers:
            server.join()
        self.assertEqual(daemon.calls, 2)


class ProverTest(unittest.TestCase):
    def test_full_trees(self) -> None:
        daemon = Daemon()
        daemon.go.clear()
        prover = daemon.prover()
        got: List[int] = []
        threads = [threading.Thread(target=lambda: got.append(prover.prove(BOUND, bytes(32)).tree.size)) for _ in range(5)]
        batches: List[tree._Batch] = []
        made = tree._Batch

        def make() -> tree._Batch:
            batches.append(made())
            return batches[-1]

        with mock.patch.object(tree, "MAX_SIZE", 2), mock.patch.object(tree, "_Batch", make):
            threads[0].start()
            while daemon.calls == 0:
                time.sleep(0.001)
            for thread in threads[1:]:
                thread.start()
            while sum(len(b.leaves) for b in batches) < 5:
                time.sleep(0.001)
            daemon.go.set()
            for thread in threads:
                thread.join()
        self.assertEqual(sorted(got), [1, 2, 2, 2, 2])
        self.assertEqual(daemon.calls, 3)

    def test_rate_limit(self) -> None:
        for code, calls in ((Code.RATE_LIMITED, 2), (Code.NOT_READY, 2), (Code.DENIED, 1)):
            daemon = Daemon()
            daemon.errors = [RPCError(code, "m", {"retry_after_ms": 1})]
            if calls == 2:
                daemon.prover().prove(BOUND, bytes(32))
            else:
                with self.assertRaises(RPCError):
                    daemon.prover().prove(BOUND, bytes(32))
            self.assertEqual(daemon.calls, calls)


try:
    SSL: Any = importlib.import_module("OpenSSL.SSL")
except ImportError:
    SSL = None


def context(key: Optional[Tuple[Path, Path]] = None) -> Any:
    """Settings for both ends, as the manual says."""
    c = SSL.Context(SSL.TLS_METHOD)
    c.set_min_proto_version(SSL.TLS1_3_VERSION)
    c.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    c.set_options(SSL.OP_NO_TICKET)
    c.set_alpn_protos([atls.PROTOCOL])
    c.set_alpn_select_callback(lambda _, offered: atls.PROTOCOL if atls.PROTOCOL in offered else b"none")
    if key is not None:
        c.use_certificate_file(str(key[0]))
        c.use_privatekey_file(str(key[1]))
    return c


@unittest.skipIf(SSL is None, "left out: no pyOpenSSL")
class CimactlTest(unittest.TestCase):
    """This process at one end, cimactl at the other, evidence of the simulator."""

    def setUp(self) -> None:
        self.cimactl = str(ROOT / "bin" / "cimactl")
        if not os.path.exists(self.cimactl):
            self.skipTest(f"left out: there is no {self.cimactl}: make build")
        self.sim = Simulator()
        self.addCleanup(self.sim.close)
        self.folder = Path(tempfile.mkdtemp(prefix="cima-a", dir="/tmp"))
        self.root = f"{self.sim.directory}/td/root.pem"
        with Client(self.sim.socket) as client:
            (self.folder / "first.json").write_bytes(client.call("GetEvidence", {"nonce": bytes(32)}).text.encode())
        waived = ("--trust-root", self.root, "--waive", "collateral,host-input-unknown")
        text = self.run_cimactl("policy", "init", str(self.folder / "first.json"), *waived).stdout.decode()
        self.policy = str(self.folder / "policy.toml")
        Path(self.policy).write_text(re.sub("units = .*", "any = true", text))  # the caller is of no unit here

    def run_cimactl(self, *words: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([self.cimactl, *words], input=stdin, capture_output=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def appraise(self, evidence: bytes, nonce: bytes, user_data: bytes) -> None:
        for name, text in (("e.json", evidence), ("bound", user_data)):
            (self.folder / name).write_bytes(text)
        where = ("--nonce", nonce.hex(), "--user-data", str(self.folder / "bound"))
        self.run_cimactl("verify", str(self.folder / "e.json"), *where, "--policy", self.policy, "--trust-root", self.root)

    def test_serve_to_cimactl(self) -> None:
        key, cert = self.folder / "key.pem", self.folder / "cert.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def serve() -> None:
            link, _ = listener.accept()
            with link, Client(self.sim.socket) as client:
                session = SSL.Connection(context((cert, key)), link)
                session.set_accept_state()
                session.do_handshake()
                stream = atls.accept(session, tree.Prover(client))
                stream.sendall(b"got " + stream.recv())
                stream.recv()  # the client's end
                session.shutdown()

        thread = threading.Thread(target=serve)
        thread.start()
        to = f"127.0.0.1:{listener.getsockname()[1]}"
        done = self.run_cimactl("tls", "connect", to, "--policy", self.policy, "--trust-root", self.root, stdin=b"hello")
        self.assertEqual(done.stdout, b"got hello")
        thread.join()

    def test_connect_to_cimactl(self) -> None:
        at = str(self.folder / "s.sock")
        serving = subprocess.Popen(
            [self.cimactl, "--socket", self.sim.socket, "tls", "serve", "--listen", f"unix:{at}", "--forward", f"unix:{self.folder}/app.sock"],
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(serving.wait)
        self.addCleanup(serving.kill)
        app = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(app.close)
        app.bind(f"{self.folder}/app.sock")
        app.listen()

        def answer() -> None:
            link, _ = app.accept()
            with link:
                link.sendall(b"got " + link.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            while link.connect_ex(at) != 0:  # it is in its folder before it listens
                time.sleep(0.001)
            session = SSL.Connection(context(), link)
            session.set_connect_state()
            session.do_handshake()
            stream = atls.connect(session, self.appraise)
            stream.sendall(b"hello")
            self.assertEqual(stream.recv(), b"got hello")
            self.assertEqual(stream.recv(), b"")
        thread.join()


if __name__ == "__main__":
    unittest.main()

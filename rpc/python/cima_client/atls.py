"""atls answers: who is at the other end of this TLS session?

After an ordinary handshake of TLS 1.3 the client sends a nonce, and the server answers
with evidence of its container, whose user data hold an exporter value of this very
session (cima-access(7), TLS). All sessions that wait share one quote.

Python's own ssl has no exporter. A session here is pyOpenSSL's ``Connection``, or
anything with the methods of :class:`Session`, after its handshake. Its context must have
TLS 1.3 and the protocol :data:`PROTOCOL` (ALPN), and give or take no tickets.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
from typing import Any, Callable, List, Optional, Protocol, Tuple

from . import canonical, wire
from .client import Client
from .errors import CimaError, Code, RPCError
from .shared import MAX_SIZE, Shared

PROTOCOL = b"cima-tls/1"
"""What both ends agree on by ALPN."""

_LABEL = b"EXPORTER-cima-tls-v1"
_PROFILE = "https://github.com/cima-project/cima/tls/v1"
_NONCE = 32
_DATA, _CHALLENGE, _TREE, _EVIDENCE = 1, 2, 3, 4
_MAX_DATA = 16384 - 5
_MOST = {_DATA: _MAX_DATA, _CHALLENGE: _NONCE, _TREE: 2048, _EVIDENCE: 16 << 20}
_BETWEEN = 55.0  # seconds between two challenges of a session, less some for the network
_RECEIVED = 2  # SSL_RECEIVED_SHUTDOWN

Appraise = Callable[[bytes, bytes, bytes], None]
"""Gets evidence, nonce and user data, and raises unless the evidence is trusted and has
exactly these two: ``cimactl verify --nonce HEX --user-data FILE`` does."""


class Session(Protocol):
    """A session of TLS, as pyOpenSSL's Connection has it."""

    def export_keying_material(self, label: bytes, olen: int, context: Optional[bytes] = None) -> bytes:
        """The exporter of RFC 8446, section 7.5."""

    def recv(self, bufsiz: int) -> bytes:
        """Some bytes; an exception at the session's end."""

    def sendall(self, buf: bytes) -> int:
        """Sends all bytes."""

    def get_alpn_proto_negotiated(self) -> bytes:
        """The protocol that was agreed on."""

    def get_protocol_version_name(self) -> str:
        """TLSv1.3."""

    def get_shutdown(self) -> int:
        """Whether a close_notify has come (2)."""


class AttestationError(CimaError):
    """The other end isn't attested, or doesn't speak the protocol: close the session."""


class Tree:
    """The Merkle tree over all sessions that share a quote. ``leaves`` are 1 to 4096 of 64 bytes."""

    def __init__(self, leaves: List[bytes]) -> None:
        if not 1 <= len(leaves) <= MAX_SIZE:
            raise ValueError(f"a tree must have 1 to {MAX_SIZE} leaves, not {len(leaves)}")
        level = [hashlib.sha384(b"\x00" + own).digest() for own in leaves]
        self._levels = [level]
        while len(level) > 1:
            pairs = [hashlib.sha384(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
            level = pairs + level[len(pairs) * 2 :]  # the last of an odd number goes up as it is
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """48 bytes."""
        return self._levels[-1][0]

    def shared(self, index: int) -> Shared:
        """The place of the leaf at ``index``."""
        path = [level[(index >> i) ^ 1] for i, level in enumerate(self._levels) if (index >> i) ^ 1 < len(level)]
        return Shared(len(self._levels[0]), index, tuple(path))


def leaf(session: Session, role: str, nonce: bytes) -> bytes:
    """What a session has in the tree, 64 bytes: its exporter value for the end that
    proves itself (``role``, "server" or "client") and the nonce of the one who asked."""
    if session.get_protocol_version_name() != "TLSv1.3" or session.get_alpn_proto_negotiated() != PROTOCOL:
        raise AttestationError(f"the session must be one of TLS 1.3 with the protocol {PROTOCOL.decode()} (ALPN)")
    value = session.export_keying_material(_LABEL, 32, role.encode() + b"\x00" + nonce)
    binding = canonical.encode({"exporter": value.hex(), "profile": _PROFILE, "role": role})
    return hashlib.sha512(b"cima-tls-leaf-v1\x00" + binding + b"\x00" + nonce).digest()


def bound(root: bytes, size: int) -> Tuple[bytes, bytes]:
    """The nonce and the user data that evidence over a tree must have."""
    user_data = canonical.encode({"profile": _PROFILE + "#tree", "root": root.hex(), "size": size})
    return hashlib.sha512(b"cima-tls-nonce-v1\x00" + user_data).digest()[:_NONCE], user_data


class _Batch:
    def __init__(self) -> None:
        self.leaves: List[bytes] = []
        self.done = threading.Event()
        self.tree: Optional[Tree] = None
        self.evidence = b""
        self.error: Optional[BaseException] = None


class Prover:
    """Proves for all sessions of a process, whatever their threads. It asks the daemon for
    one thing at a time; sessions that come meanwhile share the next quote. A process
    should have one. ``patience`` is how many seconds it waits where the daemon says when
    to come again."""

    def __init__(self, client: Client, *, patience: float = 60.0) -> None:
        self._client = client
        self._patience = patience
        self._lock = threading.Lock()
        self._next: Optional[_Batch] = None
        self._asking = threading.Lock()

    def prove(self, own: bytes) -> Tuple[Shared, bytes]:
        """Evidence that has this leaf, and its place in the tree. It waits for a quote."""
        with self._lock:
            if self._next is None or len(self._next.leaves) == MAX_SIZE:
                self._next = _Batch()
                first = True
            else:
                first = False
            batch, index = self._next, len(self._next.leaves)
            batch.leaves.append(own)
        if first:
            self._settle(batch)
        batch.done.wait()
        if batch.error is not None:
            raise batch.error
        assert batch.tree is not None
        return batch.tree.shared(index), batch.evidence

    def _settle(self, batch: _Batch) -> None:
        with self._asking:
            with self._lock:  # no leaf comes behind here
                if self._next is batch:
                    self._next = None
            try:
                batch.tree = Tree(batch.leaves)
                batch.evidence = self._ask(*bound(batch.tree.root, len(batch.leaves)))
            except BaseException as error:  # each session that waits gets it
                batch.error = error
            finally:
                batch.done.set()

    def _ask(self, nonce: bytes, user_data: bytes) -> bytes:
        end = time.monotonic() + self._patience
        while True:
            try:
                return self._client.call("GetEvidence", wire.quote_params(nonce, user_data, False)).text.encode()
            except RPCError as error:
                wait = max(error.retry_after, 0.001)
                if error.code not in (Code.RATE_LIMITED, Code.NOT_READY) or time.monotonic() + wait > end:
                    raise
            time.sleep(wait)


class Stream:
    """The program's bytes over a session that :func:`accept` or :func:`connect` opened."""

    def __init__(self, session: Session, role: str, prover: Optional[Prover]) -> None:
        self._session = session
        self._role = role
        self._prover = prover
        self._ahead = b""
        self._asked = 0.0  # when the other end's last nonce came
        self._writing = threading.Lock()

    def recv(self, size: int = _MAX_DATA) -> bytes:
        """Up to ``size`` bytes, or b"" once the other end has ended the session in order.
        It answers nonces of the other end meanwhile."""
        while not self._ahead:
            got = self._frame()
            if got is None:
                return b""
            kind, body = got
            if kind == _DATA:
                self._ahead = body
            elif kind == _CHALLENGE:
                self._challenged(body)
            else:
                raise AttestationError("the other end sent evidence that nobody asked for")
        some, self._ahead = self._ahead[:size], self._ahead[size:]
        return some

    def sendall(self, data: bytes) -> None:
        """Sends all bytes."""
        for at in range(0, len(data), _MAX_DATA):
            self._send(_DATA, data[at : at + _MAX_DATA])

    def _send(self, *frames: Any) -> None:
        text = b"".join(struct.pack(">BI", k, len(body)) + body for k, body in zip(frames[::2], frames[1::2]))
        with self._writing:
            self._session.sendall(text)

    def _challenged(self, nonce: bytes) -> None:
        now = time.monotonic()
        if self._prover is None:
            raise AttestationError("the other end asks for evidence of this one, which has none to give")
        if self._asked and now - self._asked < _BETWEEN:
            raise AttestationError("the other end sent a nonce too soon after its last")
        self._asked = now
        place, evidence = self._prover.prove(leaf(self._session, self._role, nonce))
        tree = {"size": place.size, "index": place.index, "path": [d.hex() for d in place.path]}
        self._send(_TREE, json.dumps(tree).encode(), _EVIDENCE, evidence)

    def _frame(self) -> Optional[Tuple[int, bytes]]:
        head = self._exactly(5, True)
        if head is None:
            return None
        kind, size = struct.unpack(">BI", head)
        least = _NONCE if kind == _CHALLENGE else 1
        if kind not in _MOST or not least <= size <= _MOST[kind]:
            raise AttestationError(f"the other end sent a frame of the kind {kind} with {size} bytes")
        body = self._exactly(size, False)
        assert body is not None
        return kind, body

    def _exactly(self, size: int, may_end: bool) -> Optional[bytes]:
        got = bytearray()
        while len(got) < size:
            try:
                some = self._session.recv(min(size - len(got), 1 << 16))
            except Exception:
                if may_end and not got and self._session.get_shutdown() & _RECEIVED:
                    return None
                raise
            if not some:
                raise AttestationError("the session was cut off: the other end has not ended it")
            got += some
        return bytes(got)

    def _answer(self, nonce: bytes, appraise: Appraise) -> Optional[bytes]:
        """Takes the other end's proof; returns the nonce that may come before it."""
        theirs: Optional[bytes] = None
        kind, body = self._expect()
        if kind == _CHALLENGE and self._role == "client":
            theirs = body
            kind, body = self._expect()
        if kind != _TREE:
            raise AttestationError("the other end must send evidence before anything else")
        try:
            place = Shared.read(json.loads(body))
        except ValueError as error:
            raise AttestationError(f"the other end's place in the tree: {error}") from error
        kind, evidence = self._expect()
        if kind != _EVIDENCE:
            raise AttestationError("the other end's evidence and its place in the tree must follow each other")
        other = "server" if self._role == "client" else "client"
        root = place.root(leaf(self._session, other, nonce))
        appraise(evidence, *bound(root, place.size))
        return theirs

    def _expect(self) -> Tuple[int, bytes]:
        got = self._frame()
        if got is None:
            raise AttestationError("the other end closed the session without evidence; its own log says why")
        return got


def accept(session: Session, prover: Prover, appraise: Optional[Appraise] = None) -> Stream:
    """The server's end: proves this container to the client. With ``appraise`` the client
    must prove itself, too. Bound its time by a timeout of the socket: 5 s for the nonce.
    Close the session if it raises."""
    stream = Stream(session, "server", prover)
    mine = os.urandom(_NONCE)
    if appraise is not None:
        stream._send(_CHALLENGE, mine)
    kind, nonce = stream._expect()
    if kind != _CHALLENGE:
        raise AttestationError("the client must begin with a nonce")
    stream._challenged(nonce)
    if appraise is not None:
        stream._answer(mine, appraise)
    return stream


def connect(session: Session, appraise: Appraise, prover: Optional[Prover] = None) -> Stream:
    """The client's end: nothing is sent before the server's evidence was appraised.
    ``prover`` proves this container, too, to a server that asks. Close the session if it raises."""
    stream = Stream(session, "client", prover)
    mine = os.urandom(_NONCE)
    stream._send(_CHALLENGE, mine)
    theirs = stream._answer(mine, appraise)
    if theirs is not None:
        stream._challenged(theirs)
    return stream

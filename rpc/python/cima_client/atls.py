"""atls answers: who is at the other end of this TLS session?

After an ordinary handshake of TLS 1.3 the client sends a nonce, and the server answers
with evidence of its container, whose user data hold an exporter value of this very
session (cima-access(7), TLS). All sessions that wait share one quote
(:mod:`cima_client.tree`).

Python's own ssl has no exporter. A session here is pyOpenSSL's ``Connection``, or
anything with the methods of :class:`Session`, after its handshake. Its context must have
TLS 1.3 and the protocol :data:`PROTOCOL` (ALPN), and give or take no tickets.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from typing import Any, Callable, Optional, Protocol, Tuple

from . import parts
from .errors import CimaError, MalformedError, ReplayError
from .parts import Known
from .shared import Shared
from .tree import Binding, Prover, bound, of_session, read_place, write_place

__all__ = ["PROTOCOL", "Appraise", "AttestationError", "Known", "Prover", "Session", "Stream", "accept", "connect"]

PROTOCOL = b"cima-tls/1"
"""What both ends agree on by ALPN."""

_LABEL = b"EXPORTER-cima-tls-v1"
_NONCE = 32
_DATA, _CHALLENGE, _TREE, _REPORT, _LACKING, _REST = 1, 2, 3, 4, 5, 6
_MAX_DATA = 16384 - 5
_MOST = {_DATA: _MAX_DATA, _CHALLENGE: _NONCE, _TREE: 2048, _REPORT: 256 << 10, _LACKING: parts.STAND_SIZE, _REST: 24 << 20}
_LEAST = {_CHALLENGE: _NONCE, _REPORT: parts.STAND_SIZE + 2, _LACKING: parts.STAND_SIZE, _REST: 4}
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


def binding(session: Session, role: str, nonce: bytes) -> Binding:
    """What a session has in the tree: its exporter value for the end that proves itself
    (``role``, "server" or "client") and the nonce of the one who asked."""
    if session.get_protocol_version_name() != "TLSv1.3" or session.get_alpn_proto_negotiated() != PROTOCOL:
        raise AttestationError(f"the session must be one of TLS 1.3 with the protocol {PROTOCOL.decode()} (ALPN)")
    return of_session(session.export_keying_material(_LABEL, 32, role.encode() + b"\x00" + nonce), role)


class Stream:
    """The program's bytes over a session that :func:`accept` or :func:`connect` opened."""

    def __init__(self, session: Session, role: str, prover: Optional[Prover]) -> None:
        self._session = session
        self._role = role
        self._prover = prover
        self._ahead = b""
        self._asked = 0.0  # when the other end's last nonce came
        self._told: Optional[parts.Parts] = None  # logs of a report, until the other end says what it lacks
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
            elif kind == _LACKING:
                self._lacks(body)
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
        if self._told is not None or self._asked and now - self._asked < _BETWEEN:
            raise AttestationError("the other end sent a nonce too soon after its last")
        self._asked = now
        proof = self._prover.prove(binding(self._session, self._role, nonce), nonce)
        report, self._told = parts.take_apart(proof.evidence)
        self._send(_TREE, write_place(proof.tree), _REPORT, self._told.stand + report)

    def _lacks(self, stand: bytes) -> None:
        """Sends what the other end lacks of the logs."""
        if self._told is None:
            raise AttestationError("the other end asks for the logs of no report")
        told, self._told = self._told, None
        try:
            rest = told.rest(stand)
        except MalformedError as error:
            raise AttestationError(str(error)) from error
        if rest is not None:
            self._send(_REST, rest)

    def _prove(self, nonce: bytes) -> None:
        """Proves this end, while the session opens."""
        self._challenged(nonce)
        self._lacks(self._expect(_LACKING))

    def _frame(self) -> Optional[Tuple[int, bytes]]:
        head = self._exactly(5, True)
        if head is None:
            return None
        kind, size = struct.unpack(">BI", head)
        if kind not in _MOST or not _LEAST.get(kind, 1) <= size <= _MOST[kind]:
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

    def _answer(self, nonce: bytes, appraise: Appraise, known: Optional[Known]) -> Optional[bytes]:
        """Takes the other end's proof; returns the nonce that may come before it."""
        theirs: Optional[bytes] = None
        kind, body = self._next()
        if kind == _CHALLENGE and self._role == "client":
            theirs = body
            kind, body = self._next()
        if kind != _TREE:
            raise AttestationError("the other end must send evidence before anything else")
        place = body
        body = self._expect(_REPORT)
        stand, report = body[: parts.STAND_SIZE], body[parts.STAND_SIZE :]
        other = "server" if self._role == "client" else "client"
        try:
            must = bound(read_place(place), binding(self._session, other, nonce), nonce)
            logs, beginning = (known or Known()).find(report, stand)
            self._send(_LACKING, stand if logs else beginning.stand)
            whole = logs or beginning.with_rest(self._expect(_REST), stand)
            evidence = parts.together(report, whole)
        except (MalformedError, ReplayError) as error:
            raise AttestationError(str(error)) from error
        appraise(evidence, *must)
        if known is not None and logs is None:
            known.keep(report, whole)
        return theirs

    def _expect(self, want: int) -> bytes:
        kind, body = self._next()
        if kind != want:
            raise AttestationError(f"the other end must send a frame of the kind {want} now, not of {kind}")
        return body

    def _next(self) -> Tuple[int, bytes]:
        got = self._frame()
        if got is None:
            raise AttestationError("the other end closed the session without evidence; its own log says why")
        return got


def accept(session: Session, prover: Prover, appraise: Optional[Appraise] = None, known: Optional[Known] = None) -> Stream:
    """The server's end: proves this container to the client. With ``appraise`` the client
    must prove itself, too; ``known`` keeps the logs of clients for the next session. Bound its time by a timeout of the socket: 5 s for the nonce.
    Close the session if it raises."""
    stream = Stream(session, "server", prover)
    mine = os.urandom(_NONCE)
    if appraise is not None:
        stream._send(_CHALLENGE, mine)
    kind, nonce = stream._next()
    if kind != _CHALLENGE:
        raise AttestationError("the client must begin with a nonce")
    stream._prove(nonce)
    if appraise is not None:
        stream._answer(mine, appraise, known)
    return stream


def connect(session: Session, appraise: Appraise, prover: Optional[Prover] = None, known: Optional[Known] = None) -> Stream:
    """The client's end: nothing is sent before the server's evidence was appraised.
    ``prover`` proves this container, too, to a server that asks; ``known`` keeps the logs of
    servers, so that each sends them once. Close the session if it raises."""
    stream = Stream(session, "client", prover)
    mine = os.urandom(_NONCE)
    stream._send(_CHALLENGE, mine)
    theirs = stream._answer(mine, appraise, known)
    if theirs is not None:
        stream._prove(theirs)
    return stream

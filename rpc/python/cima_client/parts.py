"""parts answers: how does evidence travel without the logs that the other end has?

The report is the evidence without its logs. Pieces are JSON values as the evidence has them:
the boot log, each entry of the runtime log, and the logs of the operating system, of which
none is a piece of no bytes. A chain over them says which somebody has (cima-access(7), The
wire).
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections import OrderedDict
from typing import List, Optional, Tuple

from . import wire
from .errors import MalformedError
from .tree import MAX_EVIDENCE

_LOGS = ("boot_log", "os_logs", "runtime_log")
_ZERO = bytes(48)
_MAX_PIECES = 1 << 21
_MAX_KNOWN = 16

STAND_SIZE = 52
"""Bytes of a stand: how many pieces, and the chain over them."""

NOTHING = bytes(STAND_SIZE)
"""The stand of who has no logs."""


def _link(chain: bytes, piece: bytes) -> bytes:
    return hashlib.sha384(chain + hashlib.sha384(piece).digest()).digest()


class Parts:
    """Pieces of logs, and the chain over the first 0, 1, 2, … of them."""

    def __init__(self, pieces: List[bytes]) -> None:
        self.pieces = pieces
        self.chain = [_ZERO]
        for piece in pieces:
            self.chain.append(_link(self.chain[-1], piece))

    @property
    def stand(self) -> bytes:
        """Of all pieces."""
        return struct.pack(">I", len(self.pieces)) + self.chain[-1]

    def rest(self, stand: bytes) -> Optional[bytes]:
        """What somebody lacks who has this, as a frame's body: all, where somebody has
        something else. None if nothing lacks."""
        count = _count(stand)
        at = count if count < len(self.chain) and self.chain[count] == stand[4:] else 0
        if at == len(self.pieces):
            return None
        return struct.pack(">I", at) + b"".join(struct.pack(">I", len(p)) + p for p in self.pieces[at:])

    def stable(self) -> Parts:
        """Without what changes as a log grows: the operating system's logs, and a run of
        digests at the end."""
        pieces = self.pieces[:-1]
        if len(pieces) > 1 and pieces[-1].startswith(b'{"digests"'):
            pieces = pieces[:-1]
        return Parts(pieces)

    def with_rest(self, body: bytes, stand: bytes) -> Parts:
        """These and the pieces of a frame, which must come to what the report said."""
        at = struct.unpack_from(">I", body)[0] if len(body) >= 4 else -1
        if at not in (0, len(self.pieces)):
            raise MalformedError("the other end's logs must begin at 0, or behind what this end has")
        pieces, read = self.pieces[:at], 4
        while read < len(body):
            size = struct.unpack_from(">I", body, read)[0] if len(body) - read >= 4 else len(body)
            if size > len(body) - read - 4:
                raise MalformedError("the other end's logs end within a piece")
            pieces.append(body[read + 4 : read + 4 + size])
            if len(pieces) > _count(stand):
                raise MalformedError("the other end's logs have more pieces than its report says")
            read += 4 + size
        whole = Parts(pieces)
        if whole.stand != stand:
            raise MalformedError("the other end's logs aren't those of its report")
        return whole


def _count(stand: bytes) -> int:
    count: int = struct.unpack_from(">I", stand)[0]
    if count > _MAX_PIECES:
        raise MalformedError(f"the other end's logs must have at most {_MAX_PIECES} pieces, not {count}")
    return count


def take_apart(evidence: str) -> Tuple[bytes, Parts]:
    """The report of evidence, and its logs."""
    try:
        members = wire.members(evidence)
        report = ",".join(f'"{name}":{text}' for name, (text, _) in members.items() if name not in _LOGS)
        if not report or "boot_log" not in members:
            raise ValueError("it must have claims and logs")
        entries = wire.elements(members["runtime_log"][0] if "runtime_log" in members else "")
    except (ValueError, RecursionError) as e:
        raise MalformedError(f"the daemon's evidence: {e}") from None
    os_logs = members["os_logs"][0] if "os_logs" in members else ""
    texts = [members["boot_log"][0], *entries, os_logs]
    return f"{{{report}}}".encode(), Parts([text.encode() for text in texts])


def together(report: bytes, logs: Parts) -> bytes:
    """The evidence again. The report comes from the other end and may be anything: whoever
    appraises reads the whole."""
    if not report.endswith(b"}") or len(logs.pieces) < 2:
        raise MalformedError("the other end's report must be a JSON object")
    boot, *entries, os_logs = logs.pieces
    text = report[:-1] + b',"boot_log":' + boot
    if os_logs:
        text += b',"os_logs":' + os_logs
    text += b',"runtime_log":[' + b",".join(entries) + b"]}"
    if len(text) > MAX_EVIDENCE:
        raise MalformedError(f"the other end's evidence must have at most {MAX_EVIDENCE} bytes")
    return text


class Known:
    """Logs of evidence that was appraised well, by the agent and its caller, so that they
    need not travel again; of 16 callers. Threads may share it. Nothing is believed because
    it is here: evidence is appraised as a whole each time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, Parts] = OrderedDict()

    def find(self, report: bytes, stand: bytes) -> Tuple[Optional[Parts], Parts]:
        """The logs that a report is about, if all are here; else what can be their beginning."""
        name = _name(report)
        with self._lock:
            for key, logs in self._logs.items():
                if logs.stand == stand:
                    self._logs.move_to_end(key)
                    return logs, logs
            logs_of = self._logs.get(name)
        return None, logs_of.stable() if logs_of else Parts([])

    def keep(self, report: bytes, logs: Parts) -> None:
        """Remembers logs of evidence that was appraised well."""
        name = _name(report)
        with self._lock:
            self._logs[name] = logs
            self._logs.move_to_end(name)
            while len(self._logs) > _MAX_KNOWN:
                self._logs.popitem(last=False)


def _name(report: bytes) -> str:
    """Whose logs a report is about, by its own claims."""
    try:
        claims = wire.mapping(wire.members(report.decode())["claims"][1])
        return repr([claims.get("agent"), wire.mapping(claims.get("container", {})).get("id"), wire.mapping(claims.get("host", {})).get("unit")])
    except Exception:  # the report is anybody's: whoever appraises it will say so
        return ""

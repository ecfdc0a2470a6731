"""shared answers: where do claims stand in a quote that others share?

The hardware makes about one quote a second, so callers may share one. It is
made over the root of a Merkle tree (RFC 6962 section 2.1, with SHA-384) with a
leaf for each caller's claims; cima-evidence(7), Shared quotes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Tuple

from . import canonical, wire
from .errors import ProtocolError, ReplayError

PROFILE = "https://github.com/cima-project/cima/shared/v1"
"""The profile in the preimage of a shared quote, so that a root never passes for claims."""

MAX_SIZE = 4096
"""How many callers share one quote at most."""

_MAX_PATH = 12  # the depth of a tree of MAX_SIZE leaves


@dataclass(frozen=True)
class Shared:
    """One leaf's place in the tree: the number of leaves, its own from 0, and
    the 48-byte sibling digests on the path from it to the root."""

    size: int
    index: int
    path: Tuple[bytes, ...]

    @classmethod
    def read(cls, v: Any) -> Shared:
        """Reads the member ``shared`` of evidence or a report."""
        if set(wire.mapping(v)) != {"size", "index", "path"}:
            raise ProtocolError("shared must have size, index and path")
        path = wire.sequence(v, "path")
        shared = cls(wire.integer(v, "size"), wire.integer(v, "index"), tuple(wire.digest({"path": d}, "path") for d in path))
        if not (0 < shared.size <= MAX_SIZE and 0 <= shared.index < MAX_SIZE and len(path) <= _MAX_PATH):
            raise ProtocolError("shared must be within its bounds")
        if any(len(d) != 48 for d in shared.path):
            raise ProtocolError("a SHA-384 digest must have 48 bytes")
        return shared

    def root(self, own: bytes) -> bytes:
        """The root of the tree with this leaf at this index. ``own`` is
        SHA-512(JCS(claims)). Raises ReplayError if the path does not lead to a root."""
        if not 0 <= self.index < self.size:
            raise ReplayError(f"there is no leaf {self.index} in a tree of {self.size}")
        at, rest = _sha384(b"\x00" + own), list(self.path)
        i, width = self.index, self.size
        while width > 1:
            if i ^ 1 != width:  # else it is the last of an odd number, and goes up as it is
                if not rest:
                    raise ReplayError("shared.path ends before the root")
                sibling = rest.pop(0)
                at = _sha384(b"\x01" + (sibling + at if i % 2 else at + sibling))
            i, width = i // 2, (width + 1) // 2
        if rest:
            raise ReplayError("shared.path leads beyond the root")
        return at

    def report_data(self, own: bytes) -> bytes:
        """The REPORTDATA of the quote that these claims share, 64 bytes."""
        over = {"profile": PROFILE, "root": self.root(own).hex(), "size": self.size}
        return hashlib.sha512(canonical.encode(over)).digest()


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()

"""tree answers: how do many calls of one service share one quote?

The hardware makes about one quote a second. A service that proves itself to many puts what
each of them wants bound into the leaves of a tree of its own, and asks the daemon once for
all (cima-access(7), ONE QUOTE FOR MANY CALLS). Sessions of attested TLS are such leaves
(:mod:`cima_client.atls`), and so is what a service binds for itself.

>>> key = tree.of("https://example.org/shop/key/v1", public_key)   # at both ends
>>> prover = tree.Prover(client)                                   # one for the process
>>> answer = prover.prove(key, nonce).text()                       # the service's
>>> proof = tree.Proof.read(answer)                                # the relying party's
>>> claims_nonce, user_data = proof.bound(key, nonce)              # what its evidence must have
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from . import canonical, wire
from .client import Client
from .errors import Code, MalformedError, ProtocolError, RPCError
from .shared import MAX_SIZE, Shared

_PROFILE = "https://github.com/cima-project/cima/tree/v1"
_SESSION = "https://github.com/cima-project/cima/tls/v1"
_OURS = "https://github.com/cima-project/"
_MAX_PROFILE, _MAX_DATA, MAX_PLACE, MAX_EVIDENCE = 256, 4096, 2048, 16 << 20


@dataclass(frozen=True)
class Binding:
    """What one leaf binds. :func:`of` makes it, so that no peer's bytes get in as another use's."""

    text: bytes

    def leaf(self, nonce: bytes) -> bytes:
        """What stands in the tree for who sent this nonce of 8 to 64 bytes; 64 bytes."""
        if not 8 <= len(nonce) <= 64:
            raise ValueError(f"a nonce must have 8 to 64 bytes, not {len(nonce)}")
        return hashlib.sha512(b"cima-tree-leaf-v1\x00" + self.text + b"\x00" + nonce).digest()


def of(use: str, data: bytes) -> Binding:
    """Binds 1 to 4096 bytes for a use of the service's own: a key, a digest. ``use`` is a URI
    of up to 256 characters, and none of this project's. A service must not let who asks
    choose both: it would give whoever relays evidence over a key of the relay's."""
    scheme, colon, _ = use.partition(":")
    if not (scheme and colon) or len(use) > _MAX_PROFILE or any(not " " < c <= "~" or c in '"\\' for c in use):
        raise ValueError(f"a use of a tree must be named by a URI of at most {_MAX_PROFILE} characters, not {use[:80]!r}")
    if use.lower().startswith(_OURS):
        raise ValueError(f"a use of a tree must be named by a URI of the service's own, not by {use!r}")
    if not 1 <= len(data) <= _MAX_DATA:
        raise ValueError(f"a leaf must bind 1 to {_MAX_DATA} bytes, not {len(data)}; bind a digest of what is longer")
    return Binding(canonical.encode({"data": data.hex(), "profile": use}))


def of_session(exporter: bytes, role: str) -> Binding:
    """Binds a session of TLS: its exporter value, for the end that proves itself."""
    return Binding(canonical.encode({"exporter": exporter.hex(), "profile": _SESSION, "role": role}))


def _of_root(root: bytes, size: int) -> Tuple[bytes, bytes]:
    user_data = canonical.encode({"profile": _PROFILE, "root": root.hex(), "size": size})
    return hashlib.sha512(b"cima-tree-nonce-v1\x00" + user_data).digest()[:32], user_data


def bound(place: Shared, binding: Binding, nonce: bytes) -> Tuple[bytes, bytes]:
    """The nonce and the user data that evidence must have, exactly, to prove what is bound to
    who sent this nonce. Raises ReplayError if the place is none of its tree."""
    return _of_root(place.root(binding.leaf(nonce)), place.size)


class Tree:
    """The Merkle tree over all that share a quote. ``leaves`` are 1 to 4096 of 64 bytes."""

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


def write_place(place: Shared) -> bytes:
    """A place in the tree as it travels beside evidence."""
    value: Dict[str, Any] = {"size": place.size, "index": place.index, "path": [d.hex() for d in place.path]}
    return json.dumps(value, separators=(",", ":")).encode()


def read_place(text: bytes) -> Shared:
    """Reads it. Raises MalformedError."""
    try:
        if len(text) > MAX_PLACE:
            raise ValueError(f"it must have at most {MAX_PLACE} bytes")
        return Shared.read({name: value for name, (_, value) in wire.members(text.decode()).items()})
    except (ValueError, RecursionError, ProtocolError) as e:
        raise MalformedError(f"the place in the tree: {e}") from None


@dataclass(frozen=True)
class Proof:
    """Evidence that many share, and the place of one of them in its tree."""

    evidence: str
    tree: Shared

    def text(self) -> bytes:
        """What a service sends to who asked: JSON."""
        return f'{{"evidence":{self.evidence},"tree":{write_place(self.tree).decode()}}}'.encode()

    @classmethod
    def read(cls, text: bytes) -> Proof:
        """Reads a proof as it was sent; it appraises nothing. Raises MalformedError."""
        try:
            if len(text) > MAX_EVIDENCE + MAX_PLACE:
                raise ValueError(f"it must have at most {MAX_EVIDENCE + MAX_PLACE} bytes")
            parts = wire.members(text.decode())
            if set(parts) != {"evidence", "tree"}:
                raise ValueError("it must have evidence and tree")
            return cls(parts["evidence"][0], read_place(parts["tree"][0].encode()))
        except (ValueError, RecursionError) as e:
            raise MalformedError(f"a proof over a tree: {e}") from None

    def bound(self, binding: Binding, nonce: bytes) -> Tuple[bytes, bytes]:
        """As the function: what ``evidence`` must have. ``cimactl verify --nonce HEX
        --user-data FILE`` checks both."""
        return bound(self.tree, binding, nonce)


class _Batch:
    def __init__(self) -> None:
        self.leaves: List[bytes] = []
        self.done = threading.Event()
        self.tree: Optional[Tree] = None
        self.evidence = ""
        self.error: Optional[BaseException] = None


class Prover:
    """Proves for all calls and sessions of a process, whatever their threads. It asks the
    daemon for one thing at a time; what comes meanwhile shares the next quote. A process
    should have one. ``patience`` is how many seconds it waits where the daemon says when to
    come again."""

    def __init__(self, client: Client, *, patience: float = 60.0) -> None:
        self._client = client
        self._patience = patience
        self._lock = threading.Lock()
        self._next: Optional[_Batch] = None
        self._asking = threading.Lock()

    def prove(self, binding: Binding, nonce: bytes) -> Proof:
        """Evidence that binds this to who sent the nonce. It waits for a quote."""
        own = binding.leaf(nonce)
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
        return Proof(batch.evidence, batch.tree.shared(index))

    def _settle(self, batch: _Batch) -> None:
        with self._asking:
            with self._lock:  # no leaf comes behind here
                if self._next is batch:
                    self._next = None
            try:
                batch.tree = Tree(batch.leaves)
                batch.evidence = self._ask(*_of_root(batch.tree.root, len(batch.leaves)))
            except BaseException as error:  # each that waits gets it
                batch.error = error
            finally:
                batch.done.set()

    def _ask(self, nonce: bytes, user_data: bytes) -> str:
        end = time.monotonic() + self._patience
        while True:
            try:
                return self._client.call("GetEvidence", wire.quote_params(nonce, user_data, False)).text
            except RPCError as error:
                wait = max(error.retry_after, 0.001)
                if error.code not in (Code.RATE_LIMITED, Code.NOT_READY) or time.monotonic() + wait > end:
                    raise
            time.sleep(wait)

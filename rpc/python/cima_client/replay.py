"""replay answers: do the logs explain the registers?

A register is 48 zero bytes, extended with one digest after the other:
SHA-384(register + digest).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Dict, Iterable, Mapping, Optional

from .errors import ProtocolError, ReplayError
from .records import SHA384, CCEventLog, EventRecord

ZERO = bytes(48)
CONTAINER_INDEX = 3
ATTEMPTS = 10
"""How often a growing log is read again until the registers did not change meanwhile."""

EV_NO_ACTION = 3


def extend(register: bytes, digest: bytes) -> bytes:
    """SHA-384(register + digest)."""
    return hashlib.sha384(register + digest).digest()


def replay(events: Iterable[EventRecord]) -> Dict[int, bytes]:
    """The registers that the records of the event log replay to: RTMR0-2 under
    0-2, the container register under 3 where the log has records of it.

    Records of index 3 are compared with their digests. Boot events are not:
    in general no digest covers their data.
    """
    registers = {0: ZERO, 1: ZERO, 2: ZERO}
    for position, event in enumerate(events):
        if event.rec_num != position:
            raise ReplayError(f"record {event.rec_num} must be record {position}: replay needs the whole log")
        if event.event_type == EV_NO_ACTION and event.imr_index != CONTAINER_INDEX:
            continue
        digest = sha384_of(event)
        if event.imr_index == CONTAINER_INDEX and digest != hashlib.sha384(event.event).digest():
            raise ReplayError(f"the digest of record {position} must be that of its event")
        registers[event.imr_index] = extend(registers.get(event.imr_index, ZERO), digest)
    return registers


def sha384_of(event: EventRecord) -> bytes:
    """The record's SHA-384 digest."""
    for digest in event.digests:
        if digest.algo_id == SHA384 and len(digest.hash) == len(ZERO):
            return digest.hash
    raise ReplayError(f"record {event.rec_num} must have a SHA-384 digest")


@dataclass(frozen=True)
class Comparison:
    """The value that the log replays to, and the register's value."""

    replayed: bytes
    register: bytes

    @property
    def equal(self) -> bool:
        """Whether the log explains the register."""
        return self.replayed == self.register


def compare(replayed: Mapping[int, bytes], registers: Mapping[int, bytes]) -> Dict[int, Comparison]:
    """Compares each register with its replay, by index."""
    indices = sorted(set(replayed) | set(registers))
    return {i: Comparison(replayed.get(i, ZERO), registers.get(i, b"")) for i in indices}


def next_start(start: int, page: CCEventLog) -> Optional[int]:
    """The start of the page after the one at ``start``, None after the last."""
    if page.next is not None and page.next <= start:
        raise ProtocolError(f"the page after record {start} must not begin at {page.next}")
    return page.next

"""compat answers: what does a program for CIMA 0.5's Python SDK need?

    from cima_client.compat import CimaSdk    # was: from cima import CimaSdk

The methods, their arguments and what they return are those of CIMA 0.5. What
cannot stay is said where it changed, and in cima-from-05(7).
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import secrets
import string
from typing import Dict, Iterable, List, Optional, Sequence

from . import records, replay, wire
from .client import Client
from .errors import ReplayError

LOG = logging.getLogger(__name__)

_ALGORITHMS = {0x4: "TPM_ALG_SHA1", 0xB: "TPM_ALG_SHA256", 0xC: "TPM_ALG_SHA384", 0xD: "TPM_ALG_SHA512"}
_PRINTABLE = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c")


class TcgAlgorithmRegistry:
    """An algorithm by its number in the TCG Algorithm Registry."""

    TPM_ALG_SHA384 = records.SHA384

    def __init__(self, alg_id: int) -> None:
        self.alg_id = alg_id

    def __str__(self) -> str:
        return _ALGORITHMS.get(self.alg_id, "UNKNOWN")


class TcgDigest:
    """A digest and its algorithm."""

    def __init__(self, alg_id: int, digest_hash: bytes) -> None:
        self.alg = TcgAlgorithmRegistry(alg_id)
        self.hash = digest_hash


class TcgImrEvent:
    """An event of TCG_PCR_EVENT2's members. ``imr_index`` 3 is the container register."""

    def __init__(self, record: records.EventRecord) -> None:
        self.rec_num = record.rec_num
        self.imr_index = record.imr_index
        self.event_type = record.event_type
        self.digests = [TcgDigest(d.algo_id, d.hash) for d in record.digests]
        self.event_size = record.event_size
        self.event = record.event
        self.extra_info = dict(record.extra_info)

    def dump(self) -> None:
        """Logs the event."""
        LOG.info("Event log entry %d", self.rec_num)
        LOG.info("IMR               : %d", self.imr_index)
        LOG.info("Type              : 0x%X", self.event_type)
        for count, digest in enumerate(self.digests):
            LOG.info("Algorithm_id[%d]   : %d (%s)", count, digest.alg.alg_id, digest.alg)
            LOG.info("Digest[%d]:", count)
            _dump(digest.hash)
        LOG.info("Event:")
        _dump(self.event)


class CcReport:
    """A quote. In addition to CIMA 0.5's members it has what the quote is bound to:
    ``claims`` (JSON), ``agent_signature``, and the ``nonce`` of the request."""

    def __init__(self, report: records.CCReport, nonce: bytes) -> None:
        self.data = report.cc_report
        self.cc_type = report.cc_type
        self.claims = report.claims
        self.agent_signature = report.agent_signature
        self.nonce = nonce

    @property
    def length(self) -> int:
        """Bytes of the quote."""
        return len(self.data)

    def dump(self, is_raw: bool = True) -> None:
        """Logs the quote in hex. ``is_raw`` has no effect: CIMA 0.5 had it."""
        LOG.info("TD Quote, %d bytes", self.length)
        _dump(self.data)


class CimaSdk:
    """CIMA 0.5's SDK class on CIMA's daemon."""

    TYPE_CC_TDX = records.TDX

    _inst: Optional[CimaSdk] = None

    @classmethod
    def inst(cls) -> CimaSdk:
        """The process's single instance."""
        if cls._inst is None:
            cls._inst = cls()
        return cls._inst

    def __init__(self, server: Optional[str] = None) -> None:
        """``server`` is "unix:PATH"; without it $CIMA_SOCKET, else /run/cima/cima.sock."""
        if server is None:
            server = "unix:" + wire.socket_path(None)
        if not server.startswith("unix:"):
            raise ValueError("Invalid server path, only unix domain socket supported.")
        path = server[len("unix:") :]
        if not os.path.exists(path):
            raise RuntimeError(f"CIMA server does not start: there is no {path}.")
        self._client = Client(path)

    def get_default_algorithms(self) -> TcgAlgorithmRegistry:
        """The algorithm of every digest: SHA-384."""
        return TcgAlgorithmRegistry(self._client.get_default_algorithm().algo_id)

    get_default_algorithm = get_default_algorithms

    def get_measurement_count(self) -> int:
        """How many registers there are: 4; on the host 3."""
        return self._client.get_measurement_count()

    def get_cc_measurement(self, imr_select: Sequence[int]) -> TcgDigest:
        """The register ``imr_select[0]`` in the algorithm ``imr_select[1]``."""
        index, algo_id = imr_select
        measurement = self._client.get_cc_measurement(index, algo_id)
        return TcgDigest(measurement.algo_id, measurement.hash)

    def get_cc_report(
        self, nonce: Optional[bytes] = None, data: Optional[bytes] = None, extraArgs: object = None
    ) -> CcReport:
        """The quote. ``nonce`` and ``data`` are base64 text, as in CIMA 0.5.

        There is no report without a nonce any more: where none is given a
        random one is drawn, and such a report proves no freshness.
        """
        if nonce is None:
            LOG.warning("no nonce was given: a random one was drawn, which proves no freshness")
            plain = secrets.token_bytes(32)
        else:
            plain = _decoded("nonce", nonce)
        user_data = None if data is None else _decoded("data", data)
        return CcReport(self._client.get_cc_report(plain, user_data), plain)

    def get_cc_eventlog(self, start: Optional[int] = None, count: Optional[int] = None) -> List[TcgImrEvent]:
        """``count`` events from number ``start`` on; without ``count`` all of them."""
        if count is not None and count <= 0:
            raise ValueError("Invalid input count. count must be number larger than 0!")
        events: List[TcgImrEvent] = []
        for record in self._client.events(start or 0, None if count is None else min(count, 1024)):
            events.append(TcgImrEvent(record))
            if len(events) == count:
                break
        return events

    @staticmethod
    def replay_cc_eventlog(event_logs: Optional[Iterable[TcgImrEvent]]) -> Dict[int, Dict[int, bytes]]:
        """The registers that the events give: {index: {algorithm: register}}."""
        registers: Dict[int, Dict[int, bytes]] = {}
        for event in event_logs or ():
            if event.event_type == replay.EV_NO_ACTION and event.imr_index != replay.CONTAINER_INDEX:
                continue
            values = [d.hash for d in event.digests if d.alg.alg_id == records.SHA384]
            if len(values) != 1:
                raise ReplayError(f"event {event.rec_num} has no SHA-384 digest")
            register = registers.setdefault(event.imr_index, {records.SHA384: replay.ZERO})
            register[records.SHA384] = replay.extend(register[records.SHA384], values[0])
        return registers


def _decoded(name: str, value: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as e:
        raise ValueError(f"{name} is not base64 encoded: {e}") from None


def _dump(data: bytes) -> None:
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(b) if chr(b) in _PRINTABLE else "." for b in row)
        LOG.info("%08X  %s %s", at, row.hex(" ").upper().ljust(47), text)

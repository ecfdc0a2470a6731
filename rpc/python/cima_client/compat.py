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
import time
from typing import Dict, Iterable, List, Optional, Sequence

from . import quote as quotes
from . import records, replay, tcg, wire
from .client import Client
from .errors import ReplayError
from .retry import unreachable

LOG = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds for which calls wait for the daemon, and while it says to come later: CIMA 0.5's
calls took as long."""

_PRINTABLE = frozenset(string.printable) - frozenset("\t\n\r\x0b\x0c")


class TcgAlgorithmRegistry:
    """An algorithm by its number in the TCG Algorithm Registry."""

    TPM_ALG_ERROR = int(tcg.Algorithm.TPM_ALG_ERROR)
    TPM_ALG_RSA = int(tcg.Algorithm.TPM_ALG_RSA)
    TPM_ALG_SHA1 = int(tcg.Algorithm.TPM_ALG_SHA1)
    TPM_ALG_SHA256 = int(tcg.Algorithm.TPM_ALG_SHA256)
    TPM_ALG_SHA384 = int(tcg.Algorithm.TPM_ALG_SHA384)
    TPM_ALG_SHA512 = int(tcg.Algorithm.TPM_ALG_SHA512)
    TPM_ALG_ECDSA = int(tcg.Algorithm.TPM_ALG_ECDSA)

    TPM_ALG_TABLE = {int(a): a.name for a in tcg.Algorithm if a}
    TPM_ALG_HASH_DIGEST_SIZE_TABLE = {TPM_ALG_SHA1: 20, TPM_ALG_SHA256: 32, TPM_ALG_SHA384: 48, TPM_ALG_SHA512: 64}

    def __init__(self, alg_id: int) -> None:
        self.alg_id = alg_id

    @staticmethod
    def get_algorithm_string(alg_id: int) -> str:
        """The name of an algorithm."""
        return TcgAlgorithmRegistry.TPM_ALG_TABLE.get(alg_id, "UNKNOWN")

    def __str__(self) -> str:
        return self.get_algorithm_string(self.alg_id)


class TcgEventType:
    """Types of events; the constants are those of CIMA 0.5 (EV_SEPARATOR, …)."""

    TCG_EVENT_TYPE_TABLE = {int(e): e.name for e in tcg.EventType}

    @staticmethod
    def get_event_type_string(event_type: int) -> str:
        """The name of a type."""
        return tcg.name_of(tcg.EventType, event_type)


for _type in tcg.EventType:
    setattr(TcgEventType, _type.name, int(_type))


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
        LOG.info("Type              : 0x%X (%s)", self.event_type, TcgEventType.get_event_type_string(self.event_type))
        for count, digest in enumerate(self.digests):
            LOG.info("Algorithm_id[%d]   : %d (%s)", count, digest.alg.alg_id, digest.alg)
            LOG.info("Digest[%d]:", count)
            _dump(digest.hash)
        LOG.info("Event:")
        _dump(self.event)


class CcReport:
    """A quote, parsed as ``header``, ``body`` and ``sig`` (``cima_client.quote``). In addition
    to CIMA 0.5's members it has what the quote is bound to: ``claims`` (JSON), ``shared``,
    ``agent_signature``, and the ``nonce`` of the request."""

    cc_aux_blob = cc_report_generation = cc_provider = None

    def __init__(self, report: records.CCReport, nonce: bytes) -> None:
        self.data = report.cc_report
        self.cc_type = report.cc_type
        self.claims = report.claims
        self.shared = report.shared
        self.agent_signature = report.agent_signature
        self.nonce = nonce
        self._quote: Optional[quotes.Quote] = None

    @property
    def quote(self) -> quotes.Quote:
        """The quote, parsed. Raises MalformedError."""
        if self._quote is None:
            self._quote = quotes.parse(self.data)
        return self._quote

    @property
    def header(self) -> quotes.Header:
        """The quote's header."""
        return self.quote.header

    @property
    def body(self) -> quotes.Body:
        """The TD's report."""
        return self.quote.body

    @property
    def sig(self) -> quotes.Signature:
        """The signature, and the certificates behind it."""
        return self.quote.signature

    def get_quoted_data(self) -> quotes.Body:
        """The TD's report."""
        return self.body

    def get_sig(self) -> quotes.Signature:
        """The signature, and the certificates behind it."""
        return self.sig

    @property
    def length(self) -> int:
        """Bytes of the quote."""
        return len(self.data)

    def dump(self, is_raw: bool = True) -> None:
        """Logs the quote in hex, or member by member where ``is_raw`` is False."""
        LOG.info("TD Quote, %d bytes", self.length)
        if is_raw:
            _dump(self.data)
            return
        for part in (self.header, self.body, self.sig):
            LOG.info("%s:", type(part).__name__)
            for name, value in vars(part).items():
                shown = value if isinstance(value, (int, tuple)) else "0x" + value.hex()
                LOG.info("  %s: %s", name, [v.hex() for v in shown] if isinstance(shown, tuple) else shown)


TdxQuote = CcReport
"""The only kind of report."""


class EvidenceApi:
    """Kinds of confidential computing; a report is always of TYPE_CC_TDX."""

    TYPE_CC_NONE = -1
    TYPE_CC_TPM = 0
    TYPE_CC_TDX = records.TDX
    TYPE_CC_SEV = 2
    TYPE_CC_CCA = 3

    TYPE_CC_STRING = {TYPE_CC_TPM: "TPM", TYPE_CC_TDX: "TDX", TYPE_CC_SEV: "SEV", TYPE_CC_CCA: "CCA"}

    @staticmethod
    def cc_type_str(cc_type: int) -> str:
        """The name of a kind."""
        return EvidenceApi.TYPE_CC_STRING[cc_type]


class CimaSdk(EvidenceApi):
    """CIMA 0.5's SDK class on CIMA's daemon."""

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
        end = time.monotonic() + 2
        while not os.path.exists(path):
            if time.monotonic() > end:
                none = unreachable(path, FileNotFoundError(2, "no such file or directory"))
                raise RuntimeError(f"CIMA server does not start: {none}")
            time.sleep(0.05)
        self._client = Client(path, patience=PATIENCE)

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
        random one is drawn, and such a report proves no freshness. Quotes are shared with
        others who wait, as many as CIMA 0.5's programs run.
        """
        if nonce is None:
            LOG.warning("no nonce was given: a random one was drawn, which proves no freshness")
            plain = secrets.token_bytes(32)
        else:
            plain = _decoded("nonce", nonce)
        user_data = None if data is None else _decoded("data", data)
        return CcReport(self._client.get_cc_report(plain, user_data, shared=True), plain)

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

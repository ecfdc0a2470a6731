"""quote answers: what does a TDX quote say?

It reads quotes of versions 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A) and
checks no signature: whether a quote is genuine, ``cimactl verify`` says.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Tuple

from .errors import MalformedError

ECDSA_P256 = 2
"""``Header.attestation_key_type``, the only one."""

TDX = 0x81
"""``Header.tee_type``."""

BODY_TDX_10, BODY_TDX_15, BODY_TDX_EX = 2, 3, 4
"""``Body.type``: of TDX 1.0 and of all quotes of version 4; of TDX 1.5, with
``tee_tcb_svn_2`` and ``mr_service_td``; of TDX 1.5 "Ex", with ``extension`` too."""

_SIZES = {BODY_TDX_10: 584, BODY_TDX_15: 648, BODY_TDX_EX: 885}
_QE_REPORT, _PCK_CHAIN = 6, 5  # types of certification data
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+?)-----END CERTIFICATE-----[\r\n]*")


@dataclass(frozen=True)
class Header:
    """What made the quote. ``user_data`` holds the platform's id in its first 16 bytes."""

    version: int
    attestation_key_type: int
    tee_type: int
    reserved: bytes
    qe_vendor: bytes
    user_data: bytes


@dataclass(frozen=True)
class Body:
    """The TD's report. ``report_data`` is what the quote was asked for over. The last three
    are empty in bodies that don't have them."""

    type: int
    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mrtd: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr: Tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes = b""
    mr_service_td: bytes = b""
    extension: bytes = b""


@dataclass(frozen=True)
class Signature:
    """What the quote is signed by, from the attestation key up to the certificates, which
    are DER: of the PCK, of the platform CA, and the root."""

    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certificates: Tuple[bytes, ...]


@dataclass(frozen=True)
class Quote:
    """A quote. Numbers are read; bytes are as the quote holds them."""

    header: Header
    body: Body
    signature: Signature


def parse(raw: bytes) -> Quote:
    """Reads a quote, which must be all of ``raw``. Raises MalformedError."""
    r = _Reader(bytes(raw))
    header = Header(r.number(2), r.number(2), r.number(4), r.take(4), r.take(16), r.take(20))
    if header.version not in (4, 5):
        raise MalformedError(f"no TDX quote: version {header.version} must be 4 or 5")
    if header.tee_type != TDX or header.attestation_key_type != ECDSA_P256:
        raise MalformedError("no TDX quote: it must be TDX's, by an ECDSA P-256 key")
    body = _body(r, header.version)
    signed = r.sized(4)
    r.nothing_else()
    return Quote(header, body, _signature(signed))


def _body(r: _Reader, version: int) -> Body:
    kind, size = BODY_TDX_10, _SIZES[BODY_TDX_10]
    if version == 5:
        kind, size = r.number(2), r.number(4)
    if _SIZES.get(kind) != size:
        raise MalformedError(f"no TDX quote: a body of type {kind} and {size} bytes is no TD's report")
    return Body(
        type=kind,
        tee_tcb_svn=r.take(16),
        mr_seam=r.take(48),
        mr_signer_seam=r.take(48),
        seam_attributes=r.take(8),
        td_attributes=r.take(8),
        xfam=r.take(8),
        mrtd=r.take(48),
        mr_config_id=r.take(48),
        mr_owner=r.take(48),
        mr_owner_config=r.take(48),
        rtmr=(r.take(48), r.take(48), r.take(48), r.take(48)),
        report_data=r.take(64),
        tee_tcb_svn_2=b"" if kind == BODY_TDX_10 else r.take(16),
        mr_service_td=b"" if kind == BODY_TDX_10 else r.take(48),
        extension=r.take(_SIZES[BODY_TDX_EX] - _SIZES[BODY_TDX_15]) if kind == BODY_TDX_EX else b"",
    )


def _signature(r: _Reader) -> Signature:
    signature, key = r.take(64), r.take(64)
    r.must_be(_QE_REPORT)
    report = r.sized(4)
    r.nothing_else()
    qe_report, qe_signature = report.take(384), report.take(64)
    auth = report.sized(2).rest
    report.must_be(_PCK_CHAIN)
    chain = report.sized(4)
    report.nothing_else()
    return Signature(signature, key, qe_report, qe_signature, auth, _certificates(chain.rest))


def _certificates(text: bytes) -> Tuple[bytes, ...]:
    text = text.rstrip(b"\0\r\n")
    found, at = [], 0
    while at < len(text):
        block = _PEM.match(text, at)
        if block is None:
            raise MalformedError("no TDX quote: the certificates must be in PEM")
        try:
            found.append(base64.b64decode(block.group(1)))
        except binascii.Error:
            raise MalformedError("no TDX quote: the certificates must be in PEM") from None
        at = block.end()
    if not found:
        raise MalformedError("no TDX quote: there are no certificates")
    return tuple(found)


class _Reader:
    """Takes fields off the front of bytes."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest

    def take(self, n: int) -> bytes:
        if len(self.rest) < n:
            raise MalformedError(f"no TDX quote: {len(self.rest)} bytes are there where {n} must be")
        field, self.rest = self.rest[:n], self.rest[n:]
        return field

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def sized(self, size: int) -> _Reader:
        return _Reader(self.take(self.number(size)))

    def must_be(self, want: int) -> None:
        got = self.number(2)
        if got != want:
            raise MalformedError(f"no TDX quote: certification data must be of type {want}, not {got}")

    def nothing_else(self) -> None:
        if self.rest:
            raise MalformedError(f"no TDX quote: {len(self.rest)} bytes stand behind it")

"""platforms answers: what does the hardware sign on each platform?

It reads what evidence names of that (cima-platforms(7)), and checks no signature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

from . import wire
from .errors import MalformedError

TDX, SNP, AZURE_TDX, AZURE_SNP = "tdx", "snp", "azure-tdx", "azure-snp"
TEES = frozenset((TDX, SNP, AZURE_TDX, AZURE_SNP))

_SNP_REPORT = 1184
_SNP_REPORT_DATA = slice(0x50, 0x90)
_QUOTE_OF_TPM = b"\xffTCG\x80\x18"  # TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE


@dataclass(frozen=True)
class Platform:
    """What stands beside the hardware's quote: the certificates of an SNP report, if
    the host gave them; on Azure the paravisor's JSON, and what its TPM signed."""

    certificates: Tuple[bytes, ...] = ()
    runtime_data: bytes = b""
    tpm_quote: bytes = b""
    tpm_signature: bytes = b""
    pcrs: bytes = b""

    @staticmethod
    def read(tee: str, value: Any, there: bool) -> Optional[Platform]:
        """Reads the member ``platform``. Raises ValueError or ProtocolError."""
        if not there and tee == SNP:
            return None  # its host gave no certificates
        if not there or tee == TDX:
            if there == (tee == TDX):
                raise ValueError(f"evidence of {tee} must{' not' if there else ''} have platform")
            return None
        members = wire.mapping(value)
        wanted = {"certificates"} if tee in (SNP, AZURE_SNP) else set()
        if tee in (AZURE_TDX, AZURE_SNP):
            wanted |= {"runtime_data", "tpm_quote", "tpm_signature", "pcrs"}
        if set(members) != wanted:
            raise ValueError(f"platform of {tee} must have {sorted(wanted)}, not {sorted(members)}")
        chain = tuple(wire.data({"": c}, "") for c in wire.sequence(members, "certificates")) if "certificates" in members else ()
        return Platform(chain, **{name: wire.data(members, name) for name in wanted - {"certificates"}})


def bound(tee: str, quote: bytes, platform: Optional[Platform], report_data: bytes) -> List[Tuple[str, bytes, bytes]]:
    """What the hardware or its TPM signed that should follow from these 64 bytes: name, what is
    signed, what should be. Not for a TD, whose quote has them as REPORTDATA. A TPM takes 50 bytes,
    and signs their SHA-384."""
    if tee == SNP:
        if len(quote) != _SNP_REPORT:
            raise MalformedError(f"an SNP report must have {_SNP_REPORT} bytes, not {len(quote)}")
        return [("REPORT_DATA", quote[_SNP_REPORT_DATA], report_data)]
    if platform is None:
        raise MalformedError(f"evidence of {tee} must have platform")
    return [("qualifying data", _qualifying_data(platform.tpm_quote), hashlib.sha384(report_data).digest())]


def _qualifying_data(attest: bytes) -> bytes:
    """extraData of a TPMS_ATTEST: it stands behind the signer's name, each behind its length."""
    rest = attest[len(_QUOTE_OF_TPM) :]
    for _ in range(2):
        end = 2 + int.from_bytes(rest[:2], "big")
        if len(rest) < end:
            break
        part, rest = rest[2:end], rest[end:]
    else:
        if attest.startswith(_QUOTE_OF_TPM):
            return part
    raise MalformedError("tpm_quote must be a TPM's quote")

"""errors answers: what can go wrong, and what does a caller do about it?"""

from __future__ import annotations

import enum
from typing import Any, Mapping, Optional, Tuple


class Code(enum.IntEnum):
    """Codes of errors that the daemon returns (cima-api(7), ERRORS)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    UNATTRIBUTED = -32001
    DENIED = -32002
    RATE_LIMITED = -32003
    TEE_UNAVAILABLE = -32004
    TOO_LARGE = -32005
    LOG_INCONSISTENT = -32006
    SHUTTING_DOWN = -32007
    NOT_READY = -32008


class CimaError(Exception):
    """Base class of this package's errors."""


class RPCError(CimaError):
    """The error that the daemon returned.

    ``code`` is a number of :class:`Code` where it is one of them, ``message``
    says what happened and what to do, ``data`` are the members that the code
    has (``retry_after_ms``, ``errno``, ``member``, ``limit``, ``agreed``).
    """

    def __init__(self, code: int, message: str, data: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(message)
        try:
            self.code: int = Code(code)
        except ValueError:
            self.code = code
        self.message = message
        self.data: Mapping[str, Any] = dict(data or {})

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (int(self.code), self.message, self.data)

    @property
    def retry_after(self) -> float:
        """Seconds after which the same request can succeed; 0 if the daemon gave no time."""
        value = self.data.get("retry_after_ms", 0)
        return value / 1000 if isinstance(value, (int, float)) else 0.0


class UnreachableError(CimaError):
    """The daemon could not be reached; ``hint``, which its text ends with, says what the
    reason may be."""

    def __init__(self, path: str, cause: OSError, hint: str) -> None:
        super().__init__(f"no daemon at {path}: {cause.strerror or cause}; hint: {hint}")
        self.path = path
        self.hint = hint
        self.errno = cause.errno
        self._cause = cause

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.path, self._cause, self.hint)


class BrokenError(CimaError):
    """The connection ended before an answer. ``sent`` is whether the daemon
    may have read the request."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (str(self), self.sent)


class UnknownOutcomeError(CimaError):
    """An extend was sent and no answer arrived: it is not known whether the
    daemon carried it out. The event log shows whether it did."""


class ProtocolError(CimaError):
    """The reply is not one that cima-api(7) describes."""


class MalformedError(CimaError):
    """A bundle of evidence is not as cima-evidence(7) requires."""


class ReplayError(CimaError):
    """A log can't be replayed."""

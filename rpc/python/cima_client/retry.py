"""retry answers: may this call be repeated, and when?"""

from __future__ import annotations

import errno
import os
import random
import time

from .errors import BrokenError, CimaError, Code, RPCError, UnknownOutcomeError, UnreachableError

EXTEND = "ExtendMeasurement"
"""The only method that changes state: never sent again if the first request may have been carried out."""

_FORMER = "cima-server.sock"
"""CIMA 0.5's socket, in /run/cima/uds."""

_PASSING = (errno.EAGAIN, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOENT)

_LATER = (Code.SHUTTING_DOWN, Code.NOT_READY, Code.RATE_LIMITED)


class Patience:
    """How long one call is repeated while the daemon is away or says to come later."""

    def __init__(self, method: str, seconds: float) -> None:
        self._method = method
        self._end = time.monotonic() + seconds
        self._tries = 0

    def pause(self, error: CimaError) -> float:
        """Seconds to wait before the call is repeated; raises the error that
        ends the call if it must not be repeated."""
        asked = error.retry_after if isinstance(error, RPCError) else 0.0
        backoff = min(0.01 * (1 << min(self._tries, 10)), 1.0)
        wait = max(asked, backoff * random.uniform(0.5, 1.0))  # random, so that clients don't all return at once
        self._tries += 1
        if not self._repeatable(error) or time.monotonic() + wait > self._end:
            if self._method == EXTEND and isinstance(error, BrokenError) and error.sent:
                raise UnknownOutcomeError(f"{error}: it is not known whether the daemon did it") from error
            raise error
        return wait

    def timed_out(self, error: TimeoutError) -> Exception:
        """The error of a call that got no answer in time."""
        return UnknownOutcomeError(f"{error}: it may come yet") if self._method == EXTEND else error

    def _repeatable(self, error: CimaError) -> bool:
        if isinstance(error, RPCError):
            # The daemon answered that it has not carried out the request.
            return error.code in _LATER
        if isinstance(error, UnreachableError):
            return error.errno in _PASSING
        if isinstance(error, BrokenError):
            return not error.sent or self._method != EXTEND
        return False


def unreachable(path: str, cause: OSError) -> UnreachableError:
    """An UnreachableError that says what the reason may be."""
    directory = os.path.dirname(path) or "."
    number = cause.errno
    if number == errno.ENOENT and os.path.basename(path) == _FORMER:
        hint = "that was CIMA 0.5's socket: name /run/cima/cima.sock, and mount its directory (-v /run/cima:/run/cima:ro)"
    elif number == errno.ENOENT and not os.path.isdir(directory):
        hint = f"in a container: mount {directory} (-v {directory}:{directory}:ro); on the host: systemctl start cimad, and cimactl doctor says what is missing"
    elif number == errno.ENOENT:
        hint = "cimad is not running: systemctl start cimad, on the host; if that changes nothing, cimactl doctor says why"
    elif number == errno.ENOTDIR:
        hint = f"{directory} is no directory, the socket itself perhaps: mount the directory (-v {directory}:{directory}:ro)"
    elif number in (errno.EACCES, errno.EPERM):
        hint = f"SELinux or AppArmor may forbid containers to connect, or {path} is not for this user"
    elif number == errno.ECONNREFUSED:
        hint = f"nobody listens: systemctl status cimad; a container mounts the directory {directory}, not the socket"
    elif number == errno.EAGAIN:
        hint = "more connections wait than the kernel queues: try again"
    else:
        hint = "see systemctl status cimad"
    return UnreachableError(path, cause, hint)

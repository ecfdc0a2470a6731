"""retry answers: may this call be made again, and when?"""

from __future__ import annotations

import errno
import os
import random
import time

from .errors import BrokenError, CimaError, Code, RPCError, UnknownOutcomeError, UnreachableError
from .wire import TurnedAway

EXTEND = "ExtendMeasurement"
"""The one method that changes something: never sent twice where the first may have counted."""

_PASSING = (errno.EAGAIN, errno.ECONNREFUSED, errno.ECONNRESET)


class Patience:
    """How long one call puts up with a daemon that restarts or isn't ready."""

    def __init__(self, method: str, seconds: float, met_before: bool) -> None:
        self._method = method
        self._end = time.monotonic() + seconds
        self._met_before = met_before
        self._tries = 0

    def pause(self, error: CimaError) -> float:
        """Seconds to wait before the call is made again; raises what the
        caller is told where it isn't."""
        asked = error.retry_after if isinstance(error, RPCError) else 0.0
        backoff = min(0.01 * (1 << min(self._tries, 10)), 1.0)
        wait = max(asked, backoff * random.uniform(0.5, 1.0))  # so that not all come back at once
        self._tries += 1
        if not self._repeatable(error) or time.monotonic() + wait > self._end:
            if self._method == EXTEND and isinstance(error, BrokenError) and error.sent:
                raise UnknownOutcomeError(f"{error}: it is not known whether the daemon did it") from error
            raise error
        return wait

    def timed_out(self, error: TimeoutError) -> Exception:
        """What the caller is told where no answer came in time."""
        return UnknownOutcomeError(f"{error}: it may come yet") if self._method == EXTEND else error

    def _repeatable(self, error: CimaError) -> bool:
        if isinstance(error, RPCError):
            # The daemon has not done it, and says so.
            return isinstance(error, TurnedAway) or error.code in (Code.SHUTTING_DOWN, Code.NOT_READY)
        if isinstance(error, UnreachableError):
            # A socket that was there comes back; one that never was, won't.
            return error.errno in _PASSING or error.errno == errno.ENOENT and self._met_before
        if isinstance(error, BrokenError):
            return not error.sent or self._method != EXTEND
        return False


def unreachable(path: str, cause: OSError) -> UnreachableError:
    """An UnreachableError that says what may be the matter."""
    directory = os.path.dirname(path) or "."
    number = cause.errno
    if number == errno.ENOENT and not os.path.isdir(directory):
        hint = f"is {directory} mounted into this container (-v {directory}:{directory}:ro), and cimad installed?"
    elif number == errno.ENOENT:
        hint = "cimad is not running: systemctl start cimad, on the host; if that changes nothing, cimactl doctor says why"
    elif number in (errno.EACCES, errno.EPERM):
        hint = f"SELinux or AppArmor may forbid containers to connect, or {path} is not for this user"
    elif number == errno.ECONNREFUSED:
        hint = f"nobody listens: systemctl status cimad; a container mounts the directory {directory}, not the socket"
    elif number == errno.EAGAIN:
        hint = "more connections wait than the kernel queues: try again"
    else:
        hint = "see systemctl status cimad"
    return UnreachableError(path, cause, hint)

"""client answers: how does a program ask the daemon?"""

from __future__ import annotations

import select
import socket
import threading
import time
from types import TracebackType
from typing import Any, Iterator, Mapping, Optional, Type

from . import records, replay, wire
from .errors import BrokenError, CimaError, ProtocolError, ReplayError
from .evidence import Evidence, parse
from .retry import EXTEND, Patience, unreachable

IDLE = 30.0
"""Seconds after which an idle connection isn't used again; the daemon closes idle ones later than that."""


class Client:
    """Sends requests to a daemon, one at a time; threads may share a client.

    ``path`` is the socket ($CIMA_SOCKET, else /run/cima/cima.sock),
    ``timeout`` how many seconds an answer may take, ``patience`` how many
    seconds a call is repeated while the daemon restarts or is not ready. An
    extend is repeated only if it certainly was not carried out.

    Calls raise :class:`~cima_client.errors.RPCError` if the daemon returns
    an error, another CimaError if there is no answer, TimeoutError if the answer
    takes too long.
    """

    def __init__(self, path: Optional[str] = None, *, timeout: float = 60.0, patience: float = 2.0) -> None:
        self.path = wire.socket_path(path)
        self.timeout = timeout
        self.patience = patience
        self._lock = threading.Lock()
        self._link: Optional[_Link] = None
        self._met = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A later call opens a new one."""
        with self._lock:
            self._drop()

    def call(self, method: str, params: Optional[Mapping[str, Any]] = None) -> wire.Reply:
        """Makes any call. Bytes in ``params`` become base64."""
        with self._lock:
            patience = Patience(method, self.patience, self._met)
            while True:
                try:
                    return self._once(method, params)
                except CimaError as error:
                    wait = patience.pause(error)
                except TimeoutError as error:
                    raise patience.timed_out(error) from error
                time.sleep(wait)

    def get_default_algorithm(self) -> records.DefaultAlgorithm:
        """The algorithm of every digest."""
        return records.DefaultAlgorithm.read(self.call("GetDefaultAlgorithm").value)

    def get_measurement_count(self) -> int:
        """How many registers get_cc_measurement knows, from index 0: 4, on the host 3."""
        return wire.integer(self.call("GetMeasurementCount").value, "count")

    def get_cc_measurement(self, index: int, algo_id: Optional[int] = None) -> records.CCMeasurement:
        """One register: 0-2 are RTMR0-2, 3 is the caller's container register."""
        reply = self.call("GetCCMeasurement", {"index": index, "algo_id": algo_id})
        return records.CCMeasurement.read(reply.value)

    def get_cc_event_log(self, start: Optional[int] = None, count: Optional[int] = None) -> records.CCEventLog:
        """One page of the event log: at most ``count`` records (up to 1024)
        from record ``start`` on."""
        return records.CCEventLog.read(self.call("GetCCEventLog", {"start": start, "count": count}).value)

    def events(self, start: int = 0, page: Optional[int] = None) -> Iterator[records.EventRecord]:
        """All records from number ``start`` on, requested in pages."""
        following: Optional[int] = start
        while following is not None:
            here = self.get_cc_event_log(following, page)
            yield from here.events
            following = replay.next_start(following, here)

    def get_cc_report(
        self, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False
    ) -> records.CCReport:
        """A quote and the claims that it is bound to. ``nonce`` has 8 to 64 bytes,
        ``user_data`` up to 4096. ``shared``: one quote for all callers that wait."""
        return records.CCReport.read(self.call("GetCCReport", wire.quote_params(nonce, user_data, shared)))

    def get_evidence(self, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False) -> Evidence:
        """Evidence about the caller. ``nonce`` is the relying party's, 8 to 64
        bytes; ``user_data`` up to 4096. ``shared``: one quote with all who
        wait. Send the result's ``raw`` member to the relying party."""
        return parse(self.call("GetEvidence", wire.quote_params(nonce, user_data, shared)).text)

    def get_evidence_as(
        self, form: str, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False
    ) -> bytes:
        """Evidence in another form than CIMA's own: "trustee", "trustee-request",
        "cmw", "cmw-cbor", "cel" or "cel-tlv" (cima-evidence(7), FORMS). The
        whole in that form, text or not."""
        params = {**wire.quote_params(nonce, user_data, shared), "format": form}
        return wire.data((self.call("GetEvidence", params)).value, "content")

    def get_measurements(self) -> records.Measurements:
        """All registers by name."""
        return records.Measurements.read(self.call("GetMeasurements").value)

    def extend_measurement(self, domain: str, operation: str, content: str) -> records.Extended:
        """Extends the container's register by an event of its own. Raises UnknownOutcomeError
        if no answer arrived: the event may have been logged."""
        params = {"domain": domain, "operation": operation, "content": content}
        return records.Extended.read(self.call(EXTEND, params).value)

    def who_am_i(self) -> records.Identity:
        """The caller's identity as the daemon sees it."""
        return records.Identity.read(self.call("WhoAmI").value)

    def discover(self) -> Mapping[str, Any]:
        """The OpenRPC document that describes the daemon's methods."""
        return wire.mapping((self.call("rpc.discover")).value)

    def compare_event_log(self) -> Mapping[int, replay.Comparison]:
        """Replays the event log and compares each register with it, by index."""
        indices = range(self.get_measurement_count())
        for _ in range(replay.ATTEMPTS):
            before = {i: self.get_cc_measurement(i).hash for i in indices}
            replayed = replay.replay(self.events())
            after = {i: self.get_cc_measurement(i).hash for i in indices}
            if before == after:  # otherwise an event was logged meanwhile
                return replay.compare(replayed, after)
        raise ReplayError("the registers changed faster than the event log could be read")

    def _once(self, method: str, params: Optional[Mapping[str, Any]]) -> wire.Reply:
        link = self._link
        if link is None or not link.usable():
            self._drop()
            link = self._link = _Link(self.path, self.timeout)
            self._met = True
        link.number += 1
        request = wire.request_line(link.number, method, params)
        try:
            reply = wire.read_reply(link.exchange(request, self.timeout), link.number)
        except BaseException as error:
            if not link.answered or wire.ends_connection(error):
                self._drop()
            raise
        link.used = time.monotonic()
        return reply

    def _drop(self) -> None:
        if self._link is not None:
            self._link.socket.close()
            self._link = None


class _Link:
    """One connection: a request, then its answer."""

    def __init__(self, path: str, timeout: float) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.number = 0
        self.used = time.monotonic()
        self.answered = True
        self._ahead = bytearray()
        try:
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        except OSError as e:
            self.socket.close()
            raise unreachable(path, e) from None

    def usable(self) -> bool:
        """Whether the daemon has kept the connection open."""
        if time.monotonic() - self.used > IDLE:
            return False
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not self._ahead and not poll.poll(0)  # between calls nothing can be readable but the end

    def exchange(self, request: bytes, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        self.answered = False
        sent = 0
        try:
            self.socket.settimeout(timeout)
            while sent < len(request):
                sent += self.socket.send(request[sent:])
        except socket.timeout:
            raise TimeoutError("the daemon did not read the request in time") from None
        except OSError:
            pass  # the daemon may have sent the reason before it closed the connection
        try:
            line = self._line(deadline)
        except socket.timeout:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        except OSError as e:
            # The daemon ignores a request without its newline.
            raise BrokenError(f"the connection ended: {e}", sent=sent == len(request)) from None
        self.answered = True
        return line

    def _line(self, deadline: float) -> bytes:
        while True:
            end = self._ahead.find(b"\n")
            if end >= 0:
                line = bytes(self._ahead[:end])
                del self._ahead[: end + 1]
                return line
            if len(self._ahead) > wire.MAX_REPLY:
                raise ProtocolError(f"the reply has more than {wire.MAX_REPLY} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout
            self.socket.settimeout(left)
            part = self.socket.recv(1 << 16)
            if not part:
                raise ConnectionResetError("the daemon closed the connection before it answered")
            self._ahead += part

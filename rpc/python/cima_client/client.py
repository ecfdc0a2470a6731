"""client answers: how does a program ask the daemon?"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from types import TracebackType
from typing import Any, Iterator, Mapping, Optional, Type

from . import records, replay, wire
from .errors import BrokenError, CimaError, ProtocolError, ReplayError
from .evidence import Evidence, parse
from .pipeline import Call, Pipeline
from .retry import EXTEND, Patience, unreachable

IDLE = 30.0
"""Seconds after which an idle connection isn't used again; the daemon closes idle ones later than that."""


class Client:
    """Sends requests to a daemon. Threads may share a client: their requests go over one
    connection, and none waits for another's answer.

    ``path`` is the socket ($CIMA_SOCKET, else /run/cima/cima.sock),
    ``timeout`` how many seconds an answer may take, ``patience`` how many
    seconds a call is repeated: while the socket isn't there yet or nobody listens, after a
    lost connection, and where the daemon says when to come again and that is within
    ``patience``. An extend is repeated only if it certainly was not carried out.

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

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. A later call opens a new one."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def call(self, method: str, params: Optional[Mapping[str, Any]] = None) -> wire.Reply:
        """Makes any call. Bytes in ``params`` become base64."""
        patience = Patience(method, self.patience)
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
        return self._connected().ask(method, params, self.timeout)

    def _connected(self) -> _Link:
        with self._lock:
            if self._link is None or not self._link.usable():
                if self._link is not None:
                    self._link.retire()
                    self._link = None
                self._link = _Link(self.path, self.timeout)
            return self._link


class _Link:
    """One connection. Many calls may wait on it: one of them reads the answers of all until
    it has its own, then the next one does."""

    def __init__(self, path: str, timeout: float) -> None:
        self._in = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._lock = threading.Lock()  # of what follows
        self._pipeline = Pipeline()
        self._reading = False
        self._used = time.monotonic()
        self._process = os.getpid()
        self._writing = threading.Lock()
        self._ahead = bytearray()  # of the call that reads
        try:
            self._in.settimeout(timeout)
            self._in.connect(path)
        except OSError as e:
            self._in.close()
            raise unreachable(path, e) from None
        self._out = self._in.dup()  # it has timeouts of its own

    def usable(self) -> bool:
        """Whether another request can follow: the daemon has kept the connection open, and
        it is not that of a parent process."""
        with self._lock:
            if self._pipeline.over or self._process != os.getpid():
                return False
            if self._pipeline.waiting:
                return True
            if time.monotonic() - self._used > IDLE:
                return False
            poll = select.poll()
            poll.register(self._in, select.POLLIN)
            return not self._ahead and not poll.poll(0)  # between calls nothing can be readable but the end

    def ask(self, method: str, params: Optional[Mapping[str, Any]], timeout: float) -> wire.Reply:
        """Makes one call."""
        deadline = time.monotonic() + timeout
        call = self._send(method, params, deadline)
        try:
            while not call.done:
                if self._must_read(call):
                    self._read_for(call, deadline)
                elif not call.wake.wait(max(0.0, deadline - time.monotonic())):
                    raise socket.timeout
        except socket.timeout:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        finally:
            if not call.done:
                with self._lock:
                    self._pipeline.forget(call)
                    self._pipeline.next_reader()
                    if not self._pipeline.waiting:  # then the daemon gives the call up too
                        self._pipeline.over = True
                        self._close()
        return call.reply()

    def _send(self, method: str, params: Optional[Mapping[str, Any]], deadline: float) -> Call:
        late = TimeoutError("the daemon did not read the request in time")
        if not self._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise late
        try:
            with self._lock:
                call = self._pipeline.begin()
            sent, size = 0, 0
            try:
                request = wire.request_line(call.number, method, params)
                size = len(request)
                while sent < size:
                    self._out.settimeout(max(0.001, deadline - time.monotonic()))
                    sent += self._out.send(request[sent:])
            except socket.timeout:
                raise late from None
            except OSError:
                sent = -1  # the daemon may have sent the reason before it closed the connection
            finally:
                with self._lock:
                    call.sent = sent == size
                    if sent < 0:
                        self._pipeline.over = True
                    elif not call.sent or not size:
                        self._pipeline.forget(call)
                        if sent > 0:  # half a line: none can follow
                            self._pipeline.end(BrokenError("a request was given up", sent=True))
            return call
        finally:
            self._writing.release()

    def _must_read(self, call: Call) -> bool:
        with self._lock:
            if call.done:
                call.wake = call.wake or threading.Event()
                call.wake.set()
                return False
            if not self._reading:
                self._reading = True
                return True
            if call.wake is None:
                call.wake = threading.Event()
            call.wake.clear()
            return False

    def _read_for(self, call: Call, deadline: float) -> None:
        """Reads lines until the call has its answer."""
        try:
            while not call.done:
                line = self._line(deadline)
                with self._lock:
                    self._pipeline.deliver(line)
        except socket.timeout:
            raise
        except OSError as e:
            with self._lock:
                self._pipeline.end(BrokenError(f"the connection ended: {e}", sent=True))
        except ProtocolError as e:
            with self._lock:
                self._pipeline.end(e)
        finally:
            with self._lock:
                self._reading = False
                self._used = time.monotonic()
                self._pipeline.next_reader()
                if self._pipeline.over and not self._pipeline.waiting:
                    self._close()

    def _line(self, deadline: float) -> bytes:
        looked = 0
        while True:
            end = self._ahead.find(b"\n", looked)
            if end >= 0:
                line = bytes(self._ahead[:end])
                del self._ahead[: end + 1]
                return line
            looked = len(self._ahead)
            if looked > wire.MAX_REPLY:
                raise ProtocolError(f"the reply has more than {wire.MAX_REPLY} bytes")
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout
            self._in.settimeout(left)
            part = self._in.recv(1 << 18)
            if not part:
                raise ConnectionResetError("the daemon closed the connection before it answered")
            self._ahead += part

    def retire(self) -> None:
        """Closes the connection once no call waits on it."""
        with self._lock:
            self._pipeline.over = True
            if not self._pipeline.waiting and not self._reading:
                self._close()

    def close(self) -> None:
        """Closes the connection; calls that wait on it fail."""
        with self._lock:
            self._pipeline.end(BrokenError("the client was closed", sent=True))
            if self._reading:
                self._in.shutdown(socket.SHUT_RDWR)  # whoever reads closes it
            else:
                self._close()

    def _close(self) -> None:
        self._in.close()
        self._out.close()

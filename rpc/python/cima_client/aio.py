"""aio answers: how does an asyncio program ask the daemon?"""

from __future__ import annotations

import asyncio
import select
import time
from types import TracebackType
from typing import Any, AsyncIterator, Mapping, Optional, Type

from . import records, replay, wire
from .client import IDLE
from .errors import BrokenError, CimaError, ProtocolError, ReplayError
from .evidence import Evidence, parse
from .pipeline import Call, Pipeline
from .retry import EXTEND, Patience, unreachable


class AsyncClient:
    """:class:`~cima_client.client.Client` for asyncio: the same calls and the
    same errors. Tasks may share one client: none waits for another's answer."""

    def __init__(self, path: Optional[str] = None, *, timeout: float = 60.0, patience: float = 2.0) -> None:
        self.path = wire.socket_path(path)
        self.timeout = timeout
        self.patience = patience
        self._connecting: Optional[asyncio.Lock] = None
        self._link: Optional[_Link] = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], at: Optional[TracebackType]
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. A later call opens a new one."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    async def call(self, method: str, params: Optional[Mapping[str, Any]] = None) -> wire.Reply:
        """Makes any call. Bytes in ``params`` become base64."""
        patience = Patience(method, self.patience)
        while True:
            try:
                return await self._once(method, params)
            except CimaError as error:
                wait = patience.pause(error)
            except TimeoutError as error:
                raise patience.timed_out(error) from error
            await asyncio.sleep(wait)

    async def get_default_algorithm(self) -> records.DefaultAlgorithm:
        """The algorithm of every digest."""
        return records.DefaultAlgorithm.read((await self.call("GetDefaultAlgorithm")).value)

    async def get_measurement_count(self) -> int:
        """How many registers get_cc_measurement knows, from index 0: 4, on the host 3."""
        return wire.integer((await self.call("GetMeasurementCount")).value, "count")

    async def get_cc_measurement(self, index: int, algo_id: Optional[int] = None) -> records.CCMeasurement:
        """One register: 0-2 are RTMR0-2, 3 is the caller's container register."""
        reply = await self.call("GetCCMeasurement", {"index": index, "algo_id": algo_id})
        return records.CCMeasurement.read(reply.value)

    async def get_cc_event_log(self, start: Optional[int] = None, count: Optional[int] = None) -> records.CCEventLog:
        """One page of the event log: at most ``count`` records (up to 1024)
        from record ``start`` on."""
        return records.CCEventLog.read((await self.call("GetCCEventLog", {"start": start, "count": count})).value)

    async def events(self, start: int = 0, page: Optional[int] = None) -> AsyncIterator[records.EventRecord]:
        """All records from number ``start`` on, requested in pages."""
        following: Optional[int] = start
        while following is not None:
            here = await self.get_cc_event_log(following, page)
            for event in here.events:
                yield event
            following = replay.next_start(following, here)

    async def get_cc_report(
        self, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False
    ) -> records.CCReport:
        """A quote and the claims that it is bound to. ``nonce`` has 8 to 64 bytes,
        ``user_data`` up to 4096. ``shared``: one quote for all callers that wait."""
        params = wire.quote_params(nonce, user_data, shared)
        return records.CCReport.read(await self.call("GetCCReport", params))

    async def get_evidence(self, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False) -> Evidence:
        """Evidence about the caller. ``nonce`` is the relying party's, 8 to 64
        bytes; ``user_data`` up to 4096. ``shared``: one quote with all who
        wait. Send the result's ``raw`` member to the relying party."""
        params = wire.quote_params(nonce, user_data, shared)
        return parse((await self.call("GetEvidence", params)).text)

    async def get_evidence_as(
        self, form: str, nonce: bytes, user_data: Optional[bytes] = None, *, shared: bool = False
    ) -> bytes:
        """Evidence in another form than CIMA's own: "trustee", "trustee-request",
        "cmw", "cmw-cbor", "cel" or "cel-tlv" (cima-evidence(7), FORMS). The
        whole in that form, text or not."""
        params = {**wire.quote_params(nonce, user_data, shared), "format": form}
        return wire.data((await self.call("GetEvidence", params)).value, "content")

    async def get_measurements(self) -> records.Measurements:
        """All registers by name."""
        return records.Measurements.read((await self.call("GetMeasurements")).value)

    async def extend_measurement(self, domain: str, operation: str, content: str) -> records.Extended:
        """Extends the container's register by an event of its own. Raises UnknownOutcomeError
        if no answer arrived: the event may have been logged."""
        params = {"domain": domain, "operation": operation, "content": content}
        return records.Extended.read((await self.call(EXTEND, params)).value)

    async def who_am_i(self) -> records.Identity:
        """The caller's identity as the daemon sees it."""
        return records.Identity.read((await self.call("WhoAmI")).value)

    async def discover(self) -> Mapping[str, Any]:
        """The OpenRPC document that describes the daemon's methods."""
        return wire.mapping((await self.call("rpc.discover")).value)

    async def compare_event_log(self) -> Mapping[int, replay.Comparison]:
        """Replays the event log and compares each register with it, by index."""
        indices = range(await self.get_measurement_count())
        for _ in range(replay.ATTEMPTS):
            before = {i: (await self.get_cc_measurement(i)).hash for i in indices}
            replayed = replay.replay([event async for event in self.events()])
            after = {i: (await self.get_cc_measurement(i)).hash for i in indices}
            if before == after:  # otherwise an event was logged meanwhile
                return replay.compare(replayed, after)
        raise ReplayError("the registers changed faster than the event log could be read")

    async def _once(self, method: str, params: Optional[Mapping[str, Any]]) -> wire.Reply:
        link = await self._connected()
        return await link.ask(method, params, self.timeout)

    async def _connected(self) -> _Link:
        if self._connecting is None:  # created in the loop that uses it, as Python 3.9 requires
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._link is None or not self._link.usable():
                if self._link is not None:
                    self._link.retire()
                    self._link = None
                self._link = await _connect(self.path)
            return self._link


async def _connect(path: str) -> _Link:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=wire.MAX_REPLY)
    except OSError as e:
        raise unreachable(path, e) from None
    return _Link(reader, writer)


class _Link:
    """One connection. Many calls may wait on it: one of them reads the answers of all until
    it has its own, then the next one does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._pipeline = Pipeline()
        self._reading = False
        self._used = time.monotonic()

    def usable(self) -> bool:
        """Whether another request can follow: the daemon has kept the connection open."""
        if self._pipeline.over or self._writer.is_closing():
            return False
        if self._pipeline.waiting:
            return True
        if time.monotonic() - self._used > IDLE or self._reader.at_eof():
            return False
        poll = select.poll()  # the loop may not have noticed the end yet
        poll.register(self._writer.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    async def ask(self, method: str, params: Optional[Mapping[str, Any]], timeout: float) -> wire.Reply:
        """Makes one call."""
        call = self._pipeline.begin()
        try:
            self._writer.write(wire.request_line(call.number, method, params))
            call.sent = True
            await asyncio.wait_for(self._answered(call), timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        finally:
            if not call.done:
                self._pipeline.forget(call)
                self._pipeline.next_reader()
                if not self._pipeline.waiting:  # then the daemon gives the call up too
                    self._pipeline.over = True
                    self._writer.close()
        return call.reply()

    async def _answered(self, call: Call) -> None:
        while not call.done:
            if not self._reading:
                await self._read_for(call)
                continue
            if call.wake is None:
                call.wake = asyncio.Event()
            call.wake.clear()
            await call.wake.wait()

    async def _read_for(self, call: Call) -> None:
        """Reads lines until the call has its answer."""
        self._reading = True
        try:
            while not call.done:
                self._pipeline.deliver((await self._reader.readuntil(b"\n"))[:-1])
        except asyncio.LimitOverrunError:
            self._pipeline.end(ProtocolError(f"the reply has more than {wire.MAX_REPLY} bytes"))
        except (asyncio.IncompleteReadError, OSError) as e:
            self._pipeline.end(BrokenError(f"the connection ended: {e}", sent=True))
        finally:
            self._reading = False
            self._used = time.monotonic()
            self._pipeline.next_reader()
            if self._pipeline.over and not self._pipeline.waiting:
                self._writer.close()

    def retire(self) -> None:
        """Closes the connection once no call waits on it."""
        self._pipeline.over = True
        if not self._pipeline.waiting:
            self._writer.close()

    def close(self) -> None:
        """Closes the connection; calls that wait on it fail."""
        self._pipeline.end(BrokenError("the client was closed", sent=True))
        self._writer.close()

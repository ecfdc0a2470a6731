"""Both clients against a scripted daemon: connections that end, and errors."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
import time
import unittest
from typing import Any, Optional

from cima_client import (
    AsyncClient,
    BrokenError,
    Client,
    Code,
    ProtocolError,
    RPCError,
    UnknownOutcomeError,
    UnreachableError,
)
from cima_client.pipeline import Pipeline
from cima_client.records import Pod

from stage import HANG_UP, SILENCE, Scripted, error, result

COUNT = result('{"count":4}')
EXTENDED = result('{"index":3,"digest":"' + "ab" * 48 + '"}')
EXTENDED_2 = EXTENDED.replace(b'"id":1', b'"id":2')
EXTEND = ("extend_measurement", "d", "o", "c")


class Both:
    """The same tests for both clients; ``ask`` makes one client's call."""

    def pause(self) -> None:
        """Lets the end of the connection arrive."""
        time.sleep(0.05)

    def ask(self, client: Any, method: str, *arguments: Any) -> Any:
        raise NotImplementedError

    def client(self, path: str, **options: Any) -> Any:
        raise NotImplementedError


class Sync(Both):
    def client(self, path: str, **options: Any) -> Any:
        return Client(path, **options)

    def ask(self, client: Any, method: str, *arguments: Any) -> Any:
        answer = getattr(client, method)(*arguments)
        return list(answer) if inspect.isgenerator(answer) else answer


class Async(Both):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.loop = asyncio.new_event_loop()

    def pause(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0.05))

    def client(self, path: str, **options: Any) -> Any:
        return AsyncClient(path, **options)

    def ask(self, client: Any, method: str, *arguments: Any) -> Any:
        answer = getattr(client, method)(*arguments)
        if inspect.isasyncgen(answer):
            stream = answer

            async def collect() -> Any:
                return [element async for element in stream]

            answer = collect()
        return self.loop.run_until_complete(answer)


class Cases(Both, unittest.TestCase):
    def setUp(self) -> None:
        self.daemon: Optional[Scripted] = None

    def against(self, *replies: bytes, greeting: bytes = b"", **options: Any) -> Any:
        daemon = self.daemon = Scripted(*replies, greeting=greeting)
        client = self.client(daemon.path, **options)
        self.addCleanup(daemon.close)
        self.addCleanup(lambda: self.ask(client, "close"))
        return client

    def test_pod(self) -> None:
        container = (
            '{"pid":1,"uid":0,"gid":0,"container":{"id":"a","runtime":"containerd","cgroup":"/k",'
            '"assurance":{"start":"gated","pidfd":true,"cgroup_owner":0,"metadata":"bundle"}%s}}'
        )
        pod = ',"pod":{"namespace":"prod","name":"web-1","uid":"u"}'
        client = self.against(result(container % pod), result(container % "", 2))
        self.assertEqual(self.ask(client, "who_am_i").container.pod, Pod("prod", "web-1", "u", ""))
        self.assertIsNone(self.ask(client, "who_am_i").container.pod)

    def scripted(self) -> Scripted:
        assert self.daemon is not None
        return self.daemon

    def test_connection_is_kept(self) -> None:
        client = self.against(COUNT, result('{"count":4}', 2), result('{"count":4}', 3))
        for _ in range(3):
            self.assertEqual(self.ask(client, "get_measurement_count"), 4)
        self.assertEqual(self.scripted().connections, 1)

    def test_hang_up_is_asked_again(self) -> None:
        client = self.against(HANG_UP, HANG_UP, COUNT)
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)
        self.assertEqual(self.scripted().connections, 3)

    def test_half_a_reply_is_none(self) -> None:
        client = self.against(COUNT[:20], COUNT)
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)

    def test_extend_is_never_sent_twice(self) -> None:
        client = self.against(HANG_UP, EXTENDED)
        with self.assertRaises(UnknownOutcomeError):
            self.ask(client, *EXTEND)
        self.assertEqual(len(self.scripted().requests), 1)

    def test_answer_that_takes_too_long(self) -> None:
        client = self.against(SILENCE, SILENCE, COUNT, timeout=0.2)
        with self.assertRaises(UnknownOutcomeError):
            self.ask(client, *EXTEND)
        with self.assertRaises(TimeoutError):
            self.ask(client, "get_measurement_count")
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)
        self.assertEqual(self.scripted().connections, 3)  # a late answer would be taken for another's

    def test_extend_goes_out_on_an_open_connection_only(self) -> None:
        client = self.against(COUNT, EXTENDED)
        self.ask(client, "get_measurement_count")
        self.scripted().hang_up()
        self.pause()
        self.assertEqual(self.ask(client, *EXTEND).index, 3)
        self.assertEqual(self.scripted().connections, 2)

    def test_extend_is_repeated_where_the_daemon_says_it_did_nothing(self) -> None:
        client = self.against(error(Code.SHUTTING_DOWN), error(Code.NOT_READY, data='{"retry_after_ms":1}'), EXTENDED_2)
        self.assertEqual(self.ask(client, *EXTEND).digest, b"\xab" * 48)
        self.assertEqual(self.scripted().connections, 2)

    def test_connection_turned_away_comes_again(self) -> None:
        client = self.against(COUNT, greeting=error(Code.RATE_LIMITED, None, '{"retry_after_ms":5}'))
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)

    def test_rate_limit_within_patience_is_waited_out(self) -> None:
        client = self.against(error(Code.RATE_LIMITED, data='{"retry_after_ms":5}'), EXTENDED_2)
        self.assertEqual(self.ask(client, *EXTEND).index, 3)
        self.assertEqual(self.scripted().connections, 1)

    def test_rate_limit_beyond_patience_is_told(self) -> None:
        client = self.against(error(Code.RATE_LIMITED, data='{"retry_after_ms":1500}'), result('{"count":4}', 2), patience=1)
        with self.assertRaises(RPCError) as raised:
            self.ask(client, "get_measurement_count")
        self.assertIs(raised.exception.code, Code.RATE_LIMITED)
        self.assertEqual(raised.exception.retry_after, 1.5)
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)  # the connection is kept
        self.assertEqual(self.scripted().connections, 1)

    def test_answer_to_no_request_is_the_last(self) -> None:
        # The daemon reports a line that is too long, and hangs up, perhaps
        # later.
        client = self.against(error(Code.TOO_LARGE, None), EXTENDED)
        with self.assertRaises(RPCError) as raised:
            self.ask(client, "get_measurement_count")
        self.assertIs(raised.exception.code, Code.TOO_LARGE)
        self.assertEqual(self.ask(client, *EXTEND).index, 3)
        self.assertEqual(self.scripted().connections, 2)

    def test_unknown_code_is_a_number(self) -> None:
        with self.assertRaises(RPCError) as raised:
            self.ask(self.against(error(-32099)), "get_measurement_count")
        self.assertEqual(raised.exception.code, -32099)

    def test_patience_ends(self) -> None:
        client = self.against(*[HANG_UP] * 1000, patience=0.3)
        began = time.monotonic()
        with self.assertRaises(BrokenError):
            self.ask(client, "get_measurement_count")
        self.assertLess(time.monotonic() - began, 2)
        self.assertGreater(self.scripted().connections, 2)

    def test_no_daemon(self) -> None:
        began = time.monotonic()
        with self.assertRaises(UnreachableError) as raised:
            self.ask(self.client("/tmp/cima-none/cima.sock", patience=0), "get_measurement_count")
        self.assertIn("in a container: mount ", raised.exception.hint)
        self.assertIn(f"; hint: {raised.exception.hint}", str(raised.exception))
        self.assertLess(time.monotonic() - began, 1)

    def test_socket_that_is_not_there_yet_is_waited_for(self) -> None:
        client = self.against(COUNT, patience=60)
        self.scripted().stop()
        again = threading.Timer(0.3, self.scripted().listen)
        again.start()
        self.addCleanup(again.join)
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)

    def test_last_word_is_about_the_first_without_an_answer(self) -> None:
        pipeline = Pipeline()
        calls = [pipeline.begin() for _ in range(4)]
        for call in calls:
            call.sent = True
        pipeline.deliver(result("1", 2).strip())
        pipeline.deliver(error(Code.TOO_LARGE, None).strip())
        self.assertTrue(all(call.done for call in calls) and pipeline.over)
        self.assertIsNotNone(calls[1].line)
        self.assertEqual([type(c.error).__name__ for c in calls], ["ToConnection", "NoneType", "BrokenError", "BrokenError"])
        self.assertEqual([c.error.sent for c in calls[2:] if isinstance(c.error, BrokenError)], [False, False])

    def test_daemon_that_was_there_is_waited_for(self) -> None:
        client = self.against(COUNT, HANG_UP, COUNT)
        self.ask(client, "get_measurement_count")
        self.scripted().stop()
        again = threading.Timer(0.3, self.scripted().listen)
        again.start()
        self.addCleanup(again.join)
        self.assertEqual(self.ask(client, "get_measurement_count"), 4)

    def test_replies_that_are_none(self) -> None:
        for reply in (
            b"hello\n",
            b"[]\n",
            b'{"jsonrpc":"2.0","id":1}\n',
            b'{"jsonrpc":"2.0","id":7,"result":{"count":4}}\n',
            b'{"jsonrpc":"2.0","id":1,"result":{"count":4},"result":{"count":5}}\n',
            b'{"jsonrpc":"2.0","id":1,"result":{"count":"4"}}\n',
            b'{"jsonrpc":"2.0","id":1,"result":{"count":NaN}}\n',
            b'{"jsonrpc":"2.0","id":1,"result":{"count":true}}\n',
            b'{"jsonrpc":"2.0","id":1,"result":{}}\n',
            b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}\n',
            b'\xff\n',
            b"[" * 100000 + b"\n",
        ):
            with self.subTest(reply[:60]), self.assertRaises(ProtocolError):
                self.ask(self.against(reply), "get_measurement_count")

    def test_page_that_does_not_go_on(self) -> None:
        page = '{"events":[],"total":9,"next":0}'
        with self.assertRaises(ProtocolError):
            self.ask(self.against(result(page)), "events")


class ErrorsTest(unittest.TestCase):
    def test_errors_cross_processes(self) -> None:
        for e in (
            RPCError(Code.DENIED, "no", {"member": "a"}),
            UnreachableError("/x", FileNotFoundError(2, "none"), "look"),
            BrokenError("gone", sent=True),
        ):
            same = pickle.loads(pickle.dumps(e))
            self.assertEqual((type(same), str(same), same.__dict__.keys()), (type(e), str(e), e.__dict__.keys()))


class SyncTest(Sync, Cases):
    def test_environment_names_the_socket(self) -> None:
        os.environ["CIMA_SOCKET"] = "/x"
        self.addCleanup(os.environ.pop, "CIMA_SOCKET")
        self.assertEqual(Client().path, "/x")
        self.assertEqual(Client("/y").path, "/y")


class AsyncTest(Async, Cases):
    def tearDown(self) -> None:
        self.doCleanups()
        self.pause()  # connections that were closed end
        self.loop.close()

    def test_cancelled_call_leaves_no_answer_behind(self) -> None:
        client = self.against(HANG_UP, COUNT)

        async def scene() -> int:
            task = asyncio.ensure_future(client.get_measurement_count())
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            count: int = await client.get_measurement_count()
            return count

        self.assertEqual(self.loop.run_until_complete(scene()), 4)


del Cases  # not a test by itself

if __name__ == "__main__":
    unittest.main()

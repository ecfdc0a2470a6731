"""Both clients against a running cimad-sim."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import unittest
from typing import List

from cima_client import AsyncClient, Client, Code, RPCError, __main__ as program
from cima_client.evidence import Evidence, parse, quote_registers, report_data
from cima_client.replay import ZERO

from stage import ROOT, Simulator

NONCE = bytes(range(32))


class SimulatorTest(unittest.TestCase):
    simulator: Simulator

    @classmethod
    def setUpClass(cls) -> None:
        cls.simulator = Simulator()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.simulator.close()

    def client(self) -> Client:
        client = Client(self.simulator.socket)
        self.addCleanup(client.close)
        return client

    def test_calls(self) -> None:
        client = self.client()
        who = client.who_am_i()
        assert who.host is not None
        self.assertEqual((who.pid, who.uid, who.host.uid), (os.getpid(), os.getuid(), os.getuid()))
        self.assertEqual(client.get_default_algorithm().algorithm, "sha384")
        m = client.get_measurements()
        self.assertEqual([client.get_cc_measurement(i).hash for i in range(3)], [m.rtmr0, m.rtmr1, m.rtmr2])
        self.assertIsNone(m.container)

    def test_event_log_replays_to_every_register(self) -> None:
        client = self.client()
        compared = client.compare_event_log()
        self.assertEqual(len(compared), client.get_measurement_count())
        for index, comparison in compared.items():
            self.assertTrue(comparison.equal, index)
        self.assertNotEqual(compared[0].register, ZERO)
        self.assertNotEqual(compared[1].register, ZERO)

    def test_pages_are_the_whole(self) -> None:
        client = self.client()
        whole = list(client.events())
        self.assertEqual(list(client.events(page=3)), whole)
        self.assertEqual(client.get_cc_event_log().total, len(whole))
        self.assertEqual(list(client.events(start=5)), whole[5:])

    def test_report_and_evidence(self) -> None:
        client = self.client()
        report = client.get_cc_report(NONCE, b"\x00data")
        self.assertEqual(quote_registers(report.cc_report).report_data, report_data(report.claims))
        for _ in range(10):  # others' events may come between the two calls
            evidence = client.get_evidence(NONCE, b"\x00data")
            self.assertEqual(evidence.differences(), [])
            replayed, now = evidence.replay().rtmr3, client.get_measurements().rtmr3
            if replayed == now:
                break
        self.assertEqual(replayed, now)
        self.assertEqual(parse(evidence.raw), evidence)

    def test_shared(self) -> None:
        client = self.client()
        report = client.get_cc_report(NONCE, shared=True)
        assert report.shared is not None
        self.assertNotEqual(quote_registers(report.cc_report).report_data, report_data(report.claims))
        self.assertEqual(quote_registers(report.cc_report).report_data, report_data(report.claims, report.shared))
        got: List[Evidence] = []

        def ask(data: bytes) -> None:
            with Client(self.simulator.socket) as one:
                got.append(one.get_evidence(NONCE, data, shared=True))

        for _ in range(10):  # until some callers have shared a quote
            threads = [threading.Thread(target=ask, args=(bytes([i]),)) for i in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertTrue(all(e.differences() == [] for e in got))
            if max(e.shared.size for e in got if e.shared is not None) > 1:
                return
        self.fail("no two callers shared a quote")

    def test_other_forms(self) -> None:
        cmw = json.loads(self.client().get_evidence_as("cmw", NONCE, shared=True))
        self.assertIn("__cmwc_t", cmw)  # a CMW collection

    def test_discovery(self) -> None:
        document = self.client().discover()
        self.assertIn("GetEvidence", [m["name"] for m in document["methods"]])
        codes = {e["code"] for e in document["components"]["errors"].values()}
        self.assertEqual(codes, {int(code) for code in Code})

    def test_errors(self) -> None:
        client = self.client()
        for call, code, member in (
            (lambda: client.get_evidence(b"short"), Code.INVALID_PARAMS, "nonce"),
            (lambda: client.get_cc_measurement(3), Code.INVALID_PARAMS, "index"),
            (lambda: client.call("GetStatus"), Code.METHOD_NOT_FOUND, None),
            (lambda: client.call("WhoAmI", {"pid": "1" * 70000}), Code.TOO_LARGE, None),
        ):
            with self.assertRaises(RPCError) as raised:
                call()
            self.assertEqual((raised.exception.code, raised.exception.data.get("member")), (code, member))
        self.assertEqual(client.get_measurement_count(), 3)

    def test_extend(self) -> None:
        # No caller on the host has a container register: with or without the
        # method there is an error, and the client reports which.
        with self.assertRaises(RPCError):
            self.client().extend_measurement("test", "operation", "content")

    def test_threads_share_a_client(self) -> None:
        client, got = self.client(), []
        threads = [threading.Thread(target=lambda: got.append(client.get_measurement_count())) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, [3] * 8)

    def test_restart(self) -> None:
        client = self.client()
        client.get_measurements()
        self.simulator.stop()
        again = threading.Thread(target=self.simulator.start)
        again.start()
        self.assertEqual(client.get_measurement_count(), 3)
        again.join()
        self.assertEqual(client.get_evidence(NONCE).differences(), [])

    def test_asyncio(self) -> None:
        async def scene() -> None:
            async with AsyncClient(self.simulator.socket) as client:
                who, count = await asyncio.gather(client.who_am_i(), client.get_measurement_count())
                self.assertEqual((who.pid, count), (os.getpid(), 3))
                self.assertEqual((await client.get_default_algorithm()).algo_id, 12)
                self.assertTrue(all(c.equal for c in (await client.compare_event_log()).values()))
                self.assertEqual(len([e async for e in client.events(page=3)]), (await client.get_cc_event_log()).total)
                self.assertEqual((await client.get_evidence(NONCE)).differences(), [])
                report = await client.get_cc_report(NONCE)
                self.assertEqual(quote_registers(report.cc_report).report_data, report_data(report.claims))
                report = await client.get_cc_report(NONCE, b"data", shared=True)
                self.assertEqual(
                    quote_registers(report.cc_report).report_data, report_data(report.claims, report.shared)
                )
                self.assertEqual((await client.get_evidence(NONCE, shared=True)).differences(), [])
                self.assertIn("__cmwc_t", json.loads(await client.get_evidence_as("cmw", NONCE)))
                self.assertIn("methods", await client.discover())
                self.assertEqual((await client.get_measurements()).rtmr0, (await client.get_cc_measurement(0)).hash)
                with self.assertRaises(RPCError):
                    await client.extend_measurement("test", "operation", "content")

        asyncio.run(scene())

    def test_program(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = program.main(["--socket", self.simulator.socket, "--nonce", NONCE.hex()])
        self.assertEqual(code, 0)
        self.assertEqual(parse(out.getvalue().strip()).differences(), [])
        failed = subprocess.run(
            [sys.executable, "-m", "cima_client", "--whoami", "--socket", "/tmp/cima-none/cima.sock"],
            cwd=ROOT / "rpc/python",
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(failed.returncode, 1)
        self.assertRegex(failed.stderr, r"^cima_client: no daemon at .*; hint: in a container: mount /tmp/cima-none")

    def test_end_to_end_example(self) -> None:
        environment = {**os.environ, "CIMA_SOCKET": self.simulator.socket, "PYTHONPATH": str(ROOT / "rpc/python")}
        example = str(ROOT / "rpc/python/examples/end_to_end.py")
        ran = subprocess.run([sys.executable, example], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(json.loads(ran.stdout)["replayed"], {"0": True, "1": True, "2": True})


if __name__ == "__main__":
    unittest.main()

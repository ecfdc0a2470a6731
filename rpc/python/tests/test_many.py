"""Many calls at once from one process, with the default limits: cima-api(7), GetEvidence."""

from __future__ import annotations

import asyncio
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import List

from cima_client import AsyncClient, Client, Evidence

from stage import Simulator

MANY = 200


class ManyTest(unittest.TestCase):
    simulator: Simulator

    def setUp(self) -> None:
        self.simulator = Simulator(quote_delay="500ms", config="")
        self.addCleanup(self.simulator.close)

    def all_have_evidence(self, got: List[Evidence], before: int) -> None:
        self.assertEqual([e.differences() for e in got], [[]] * MANY)
        self.assertEqual(len({e.claims["nonce"] for e in got}), MANY)
        # The first caller's, one for those who came meanwhile, and a few where the machine is busy.
        self.assertLessEqual(self.simulator.quotes() - before, 6)

    def test_threads(self) -> None:
        before = self.simulator.quotes()
        with Client(self.simulator.socket) as cima, ThreadPoolExecutor(MANY) as threads:
            got = list(threads.map(lambda n: cima.get_evidence(n.to_bytes(8, "big"), shared=True), range(MANY)))
        self.all_have_evidence(got, before)

    def test_tasks(self) -> None:
        async def scene() -> List[Evidence]:
            async with AsyncClient(self.simulator.socket) as cima:
                tasks = [cima.get_evidence(n.to_bytes(8, "big"), shared=True) for n in range(MANY)]
                return list(await asyncio.gather(*tasks))

        before = self.simulator.quotes()
        self.all_have_evidence(asyncio.run(scene()), before)

    def test_readers_of_the_log(self) -> None:
        with Client(self.simulator.socket) as cima, ThreadPoolExecutor(MANY) as threads:
            want = len(list(cima.events()))
            got = list(threads.map(lambda n: len(list(cima.events(page=5))), range(MANY)))
        self.assertEqual(got, [want] * MANY)


if __name__ == "__main__":
    unittest.main()

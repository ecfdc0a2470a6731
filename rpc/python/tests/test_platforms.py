"""The client against a cimad-sim on each platform."""

import json
import unittest
from typing import Any, Dict

from cima_client import Client, MalformedError, RPCError
from cima_client.evidence import parse, report_data
from stage import Simulator

NONCE = b"a nonce of the test's"


class Platforms(unittest.TestCase):
    def test_tdx(self) -> None:
        self.on("tdx")

    def test_snp(self) -> None:
        self.on("snp")

    def test_azure_tdx(self) -> None:
        self.on("azure-tdx")

    def test_azure_snp(self) -> None:
        self.on("azure-snp")

    def on(self, platform: str) -> None:
        simulator = Simulator(platform=platform)
        self.addCleanup(simulator.close)
        client = Client(simulator.socket)
        self.addCleanup(client.close)
        self.assertIsNotNone(client.who_am_i().host)
        self.assertEqual(client.discover()["openrpc"], "1.3.2")
        for shared in (True, False):
            evidence = client.get_evidence(NONCE, b"\x00data", shared=shared)
            self.assertEqual((evidence.tee, evidence.differences()), (platform, []))
            self.assertEqual(parse(evidence.raw), evidence)
        report = client.get_cc_report(NONCE, b"\x00data")
        if platform == "snp":
            self.assertEqual(report.cc_report[0x50:0x90], report_data(report.claims))
        with self.assertRaises(RPCError):
            client.get_evidence(b"short")

        # What was changed is no evidence, or differs.
        meant: Dict[str, Any] = json.loads(evidence.raw)

        def refused(**changes: Any) -> None:
            with self.assertRaises(MalformedError, msg=str(changes)[:80]):
                parse(json.dumps({**meant, **changes})).differences()

        for other in {"tdx", "snp", "azure-tdx", "azure-snp", "sgx", ""} - {platform}:
            refused(tee=other)
        beside = meant.get("platform", {})
        self.assertEqual(bool(beside), platform != "tdx")
        for name in beside:
            for wrong in (None, 1, "!"):
                refused(platform={**beside, name: wrong})
            refused(platform={k: v for k, v in beside.items() if k != name})
        refused(platform={**beside, "more": ""})
        refused(platform=None)
        without = {k: v for k, v in meant.items() if k != "platform"}
        if platform in ("tdx", "snp"):  # the host of an SNP guest need not give certificates
            self.assertEqual(parse(json.dumps(without)).differences(), [])
        else:
            with self.assertRaises(MalformedError):
                parse(json.dumps(without))
        if platform.startswith("azure-"):
            refused(platform={**beside, "tpm_quote": "/1RDR4AYAAA="})
        changed = {**meant, "claims": {**meant["claims"], "nonce": "AAAAAAAAAAA="}}
        self.assertEqual(len(parse(json.dumps(changed)).differences()), 1)

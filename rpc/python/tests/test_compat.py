"""Programs for CIMA 0.5 run on: what its published example and its end-to-end
test do, they do here."""

from __future__ import annotations

import base64
import os
import secrets
import unittest

from cima_client import RPCError
from cima_client.compat import CimaSdk, TcgAlgorithmRegistry, TcgEventType, TcgImrEvent
from cima_client.evidence import quote_registers

from stage import Simulator


class CompatTest(unittest.TestCase):
    simulator: Simulator

    @classmethod
    def setUpClass(cls) -> None:
        cls.simulator = Simulator()
        os.environ["CIMA_SOCKET"] = cls.simulator.socket
        CimaSdk._inst = None

    @classmethod
    def tearDownClass(cls) -> None:
        CimaSdk.inst()._client.close()
        del os.environ["CIMA_SOCKET"]
        cls.simulator.close()

    def test_report(self) -> None:
        with self.assertLogs("cima_client.compat") as said:
            report = CimaSdk.inst().get_cc_report()
            report.dump()
        self.assertIn("freshness", said.output[0])
        self.assertIn("00000000  04 00 02 00", said.output[2])  # version 4
        self.assertEqual(report.cc_type, CimaSdk.TYPE_CC_TDX)
        self.assertGreater(report.length, 1000)
        self.assertEqual((report.header.version, report.get_quoted_data().report_data[:1] != b""), (4, True))
        self.assertEqual(len(report.get_sig().certificates), 3)
        with self.assertLogs("cima_client.compat") as said:
            report.dump(is_raw=False)
        self.assertIn(f"report_data: 0x{report.body.report_data.hex()}", "\n".join(said.output))

    def test_report_with_nonce_and_data(self) -> None:
        nonce = base64.b64encode(secrets.token_urlsafe().encode())
        report = CimaSdk.inst().get_cc_report(nonce=nonce, data=base64.b64encode(b"This data is measured."))
        self.assertIn(nonce.decode(), report.claims)
        self.assertNotEqual(quote_registers(report.data).report_data, bytes(64))
        with self.assertRaises(ValueError):
            CimaSdk.inst().get_cc_report(nonce=b"not base64!")

    def test_replay_is_what_the_registers_hold(self) -> None:
        events = CimaSdk.inst().get_cc_eventlog()
        replayed = CimaSdk.inst().replay_cc_eventlog(events)
        self.assertEqual(sorted(replayed), [0, 1, 2])
        for r in replayed:
            self.assertEqual(CimaSdk.inst().get_cc_measurement([r, 12]).hash, replayed[r][12])

    def test_event_log_in_parts(self) -> None:
        sdk = CimaSdk.inst()
        whole = sdk.get_cc_eventlog()
        self.assertTrue(all(isinstance(e, TcgImrEvent) for e in whole))
        self.assertEqual([e.rec_num for e in sdk.get_cc_eventlog(3, 5)], list(range(3, 8)))
        self.assertEqual(len(sdk.get_cc_eventlog(start=2)), len(whole) - 2)
        self.assertEqual(sdk.get_cc_eventlog(len(whole)), [])
        with self.assertRaises(ValueError):
            sdk.get_cc_eventlog(0, 0)
        with self.assertLogs("cima_client.compat"):
            whole[0].dump()

    def test_the_rest(self) -> None:
        sdk = CimaSdk.inst()
        self.assertEqual((sdk.get_default_algorithm().alg_id, str(sdk.get_default_algorithms())), (12, "TPM_ALG_SHA384"))
        self.assertEqual(sdk.get_measurement_count(), 3)  # this process is in no container
        with self.assertRaises(RPCError):
            sdk.get_cc_measurement([3, 12])

    def test_constants(self) -> None:
        self.assertEqual((TcgAlgorithmRegistry.TPM_ALG_SHA384, TcgAlgorithmRegistry.get_algorithm_string(4)), (12, "TPM_ALG_SHA1"))
        self.assertEqual(getattr(TcgEventType, "EV_EFI_VARIABLE_AUTHORITY"), 0x800000E0)
        self.assertEqual(TcgEventType.get_event_type_string(3), "EV_NO_ACTION")
        self.assertEqual((CimaSdk.TYPE_CC_SEV, CimaSdk.cc_type_str(1)), (2, "TDX"))

    def test_where_there_is_no_daemon(self) -> None:
        with self.assertRaises(ValueError):
            CimaSdk("tcp:1.2.3.4")
        with self.assertRaises(RuntimeError):
            CimaSdk("unix:/tmp/cima-none/x.sock")


if __name__ == "__main__":
    unittest.main()

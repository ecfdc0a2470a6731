"""Many calls with one quote, and evidence without the logs that somebody has."""

from __future__ import annotations

import json
import struct
import unittest
from typing import cast

from cima_client import Client, MalformedError, ReplayError, Shared
from cima_client import parts, tree

from stage import VECTORS
from test_atls import Daemon

NONCE = b"nonce of a test!"


class BindingTest(unittest.TestCase):
    def test_leaves_differ(self) -> None:
        bindings = [tree.of_session(v, role) for v in (b"x", b"y") for role in ("server", "client")]
        bindings += [tree.of(use, v) for v in (b"x", b"y") for use in ("https://example.org/v1", "https://example.org/v2")]
        self.assertEqual(len({b.leaf(n) for b in bindings for n in (b"nonce 12", b"nonce 21")}), 16)

    def test_refused(self) -> None:
        for use, data in (
            *((use, b"x") for use in ("", "no scheme", ":x", "a b:c", 'a:"', "a:\\", "a:é", "a:\x7f", "a:" + "x" * 255)),
            ("https://github.com/cima-project/cima/tls/v1", b"x"),
            ("HTTPS://GITHUB.com/cima-project/x", b"x"),
            ("https://example.org", b""),
            ("https://example.org", bytes(4097)),
        ):
            with self.assertRaises(ValueError):
                tree.of(use, data)
        for size in (7, 65):
            with self.assertRaises(ValueError):
                tree.of("a:b", b"x").leaf(bytes(size))

    def test_proof(self) -> None:
        key = tree.of("https://example.org/key/v1", b"x")
        daemon = Daemon()
        text = tree.Prover(cast(Client, daemon)).prove(key, NONCE).text()
        back = tree.Proof.read(text)
        self.assertEqual(back.tree, Shared(1, 0, ()))
        nonce, user_data = back.bound(key, NONCE)
        self.assertIn(nonce.hex(), back.evidence)
        self.assertNotEqual(back.bound(tree.of("https://example.org/key/v1", b"y"), NONCE)[1], user_data)
        with self.assertRaises(ReplayError):
            tree.bound(Shared(2, 0, ()), key, NONCE)
        place = b'{"size":1,"index":0,"path":[]}'
        for wrong in (
            b"", b"{}", b'{"evidence":{}}', b'{"tree":' + place + b"}", b'{"evidence":{},"tree":null}',
            b'{"evidence":{},"tree":' + place + b',"more":1}', b'{"evidence":{},"evidence":{},"tree":' + place + b"}",
            b'{"evidence":{},"tree":{"size":0,"index":0,"path":[]}}', b"\xff", b" " * (17 << 20), b"[" * 100000,
        ):
            with self.assertRaises(MalformedError):
                tree.Proof.read(wrong)
        with self.assertRaises(MalformedError):
            tree.read_place(place[:-1] + b" " * 2048 + b"}")


class VectorsTest(unittest.TestCase):
    """trees.json was computed by cima-access(7)'s words, in no language of a client."""

    def test_all(self) -> None:
        v = json.loads((VECTORS / "trees.json").read_text())
        self.assertEqual((len(v["bindings"]), len(v["sessions"]), len(v["parts"])), (4, 2, 2))
        for b in v["bindings"] + v["sessions"]:
            if "role" in b:
                made = tree.of_session(bytes.fromhex(b["exporter"]), b["role"])
            else:
                made = tree.of(b["profile"], bytes.fromhex(b["data"]))
            nonce, user_data = tree.bound(Shared.read(b["place"]), made, bytes.fromhex(b["nonce"]))
            self.assertEqual((nonce.hex(), user_data.decode()), (b["claims_nonce"], b["user_data"]))
        for p in v["parts"]:
            report, logs = parts.take_apart(p["evidence"])
            self.assertEqual((report.decode(), len(logs.pieces), logs.chain[-1].hex()), (p["report"], p["pieces"], p["chain"]))


class PartsTest(unittest.TestCase):
    def test_together(self) -> None:
        for text, count in (
            ('{"claims":{"a":[1,"}"]},"quote":"AA==","boot_log":"AA==","os_logs":[{"entries":"AA=="}],"runtime_log":[{"event":"AA=="},{"digests":"BB=="}]}', 4),
            ('{"quote":"AA==","boot_log":"","runtime_log":[]}', 2),
        ):
            report, logs = parts.take_apart(text)
            self.assertEqual((parts.together(report, logs).decode(), len(logs.pieces)), (text, count))
        for wrong in ("", "[]", "{}", '{"boot_log":"","runtime_log":[]}', '{"quote":"","runtime_log":[]}', '{"quote":"","boot_log":""}', '{"quote":"","boot_log":"","runtime_log":{}}'):
            with self.assertRaises(MalformedError):
                parts.take_apart(wrong)
        for report, pieces in ((b"{", [b"", b""]), (b"{}", [b""]), (b"{}", [bytes(16 << 20), b""])):
            with self.assertRaises(MalformedError):
                parts.together(report, parts.Parts(pieces))

    def test_rest(self) -> None:
        own = parts.Parts([b'"b"', b'"one"', b'"two"', b""])
        has = parts.Parts(own.pieces[:2])
        whole, rest = own.rest(parts.NOTHING), own.rest(has.stand)
        assert whole is not None and rest is not None
        self.assertIsNone(own.rest(own.stand))
        self.assertEqual(own.rest(struct.pack(">I", 2) + bytes(48)), whole)
        self.assertEqual(own.rest(struct.pack(">I", 1 << 21) + bytes(48)), whole)
        for body in (whole, rest):
            self.assertEqual(has.with_rest(body, own.stand).pieces, own.pieces)
        more = struct.pack(">I", 0)
        for wrong in (rest[:3], rest[:-5], b"\0\0\0\1" + rest[4:], whole[:11], struct.pack(">I", 2), rest + more, rest + b"\xff" * 4, rest + b"\0", whole.replace(b"one", b"two")):
            with self.assertRaises(MalformedError):
                has.with_rest(wrong, own.stand)

    def test_known(self) -> None:
        known = parts.Known()

        def of(i: int) -> "tuple[bytes, parts.Parts]":
            return parts.take_apart(f'{{"claims":{{"container":{{"id":"{i}"}}}},"boot_log":"{i}","runtime_log":[{{"event":"{i}"}},{{"digests":"d"}}]}}')

        for i in range(40):
            known.keep(*of(i))
            report, logs = of(0)
            self.assertIsNotNone(known.find(report, logs.stand)[0])
        self.assertEqual(len(known._logs), 16)
        report, logs = of(39)
        found, beginning = known.find(report, parts.NOTHING[:3] + b"\x09" + bytes(48))
        self.assertIsNone(found)
        self.assertEqual(beginning.pieces, logs.pieces[:2])
        self.assertEqual(known.find(b"anything", parts.NOTHING)[1].pieces, [])


if __name__ == "__main__":
    unittest.main()

"""The recorded exchanges and bundles of rpc/vectors."""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import hashlib
import hashlib
import json
import random
import unittest
from typing import Any, Callable, Dict

from cima_client import AsyncClient, CCReport, CimaError, Client, Evidence, MalformedError, RPCError, canonical, evidence
from cima_client.quote import parse as parse_quote
from cima_client.replay import replay

from stage import VECTORS, Scripted

Asked = Callable[[Any, Dict[str, Any]], Any]

ASK: Dict[str, Asked] = {
    "GetDefaultAlgorithm": lambda c, p: c.get_default_algorithm(),
    "GetMeasurementCount": lambda c, p: c.get_measurement_count(),
    "GetCCMeasurement": lambda c, p: c.get_cc_measurement(**p),
    "GetCCEventLog": lambda c, p: c.get_cc_event_log(**p),
    "GetCCReport": lambda c, p: c.get_cc_report(**p),
    "GetEvidence": lambda c, p: c.get_evidence(**p),
    "GetMeasurements": lambda c, p: c.get_measurements(),
    "ExtendMeasurement": lambda c, p: c.extend_measurement(**p),
    "WhoAmI": lambda c, p: c.who_am_i(),
}

BINARY = frozenset(("nonce", "user_data"))


class ExchangesTest(unittest.TestCase):
    def test_each(self) -> None:
        exchanges = json.loads((VECTORS / "exchanges.json").read_text())
        typed = [x for x in exchanges if "method" in x]
        self.assertGreater(len(typed), 20)
        for x in typed:
            for kind in (Client, AsyncClient):
                with self.subTest(x["name"], client=kind.__name__):
                    self.one(x, kind)

    def one(self, x: Dict[str, Any], kind: Any) -> None:
        daemon = Scripted(x["reply"].encode() + b"\n")
        self.addCleanup(daemon.close)
        params = {k: base64.b64decode(v) if k in BINARY else v for k, v in x["params"].items()}
        reply = json.loads(x["reply"])
        try:
            got = asked(kind(daemon.path, patience=0), ASK[x["method"]], params)
        except RPCError as e:
            self.assertEqual(reply["error"], sent(e))
        else:
            self.assertTrue(holds(got, reply["result"]), got)
        self.assertEqual(json.loads(daemon.requests[0]), json.loads(x["request"]))

    def test_event_logs_replay_to_the_registers_beside_them(self) -> None:
        exchanges = {x["name"]: x for x in json.loads((VECTORS / "exchanges.json").read_text())}
        for where, index in (("the host", 0), ("a container", 3)):
            daemon = Scripted(exchanges[f"event log of {where}"]["reply"].encode() + b"\n")
            self.addCleanup(daemon.close)
            with Client(daemon.path) as client:
                got = replay(client.events())
            name = {0: "RTMR0", 3: "container register"}[index]
            self.assertEqual(got[index].hex(), json.loads(exchanges[name]["reply"])["result"]["hash"])


def asked(client: Any, ask: Asked, params: Dict[str, Any]) -> Any:
    """The answer that either client gets."""
    if isinstance(client, Client):
        with client:
            return ask(client, params)

    async def scene() -> Any:
        async with client:
            return await ask(client, params)

    return asyncio.run(scene())


def sent(e: RPCError) -> Dict[str, Any]:
    whole: Dict[str, Any] = {"code": int(e.code), "message": e.message}
    return {**whole, "data": e.data} if e.data else whole


def holds(got: Any, value: Any) -> bool:
    """Whether a record has every member of the JSON that it was read from."""
    if isinstance(got, Evidence):
        return bool(json.loads(got.raw) == value and got.quote == base64.b64decode(value["quote"]))
    if isinstance(got, CCReport):
        got = dataclasses.replace(got, claims=json.loads(got.claims))
    if isinstance(got, int) and isinstance(value, dict):
        return value == {"count": got}
    if isinstance(value, dict):
        members = got if isinstance(got, dict) else vars(got)
        return all(holds(members[name], of) for name, of in value.items())
    if isinstance(value, list):
        return len(got) == len(value) and all(map(holds, got, value))
    if isinstance(got, bytes):
        return value in (got.hex(), base64.b64encode(got).decode())
    return bool(got == value)


class BundlesTest(unittest.TestCase):
    def test_each(self) -> None:
        bundles = json.loads((VECTORS / "bundles.json").read_text())
        self.assertGreater(len(bundles), 10)
        for b in bundles:
            with self.subTest(b["file"]):
                self.one(b, (VECTORS / b["file"]).read_text())

    def one(self, expected: Dict[str, str], text: str) -> None:
        if expected["expect"] == "malformed":
            with self.assertRaises(MalformedError):
                evidence.parse(text)
            return
        bundle = evidence.parse(text)
        # This client does not check the agent's signature.
        self.assertEqual(bundle.differences() == [], expected["expect"] in ("agrees", "signature"))
        if expected["expect"] != "agrees":
            return
        r = bundle.replay()
        names = ("rtmr3", "register", "public", "container", "launch_digest", "defaults_digest")
        got = {name: getattr(r, name).hex() for name in names if getattr(r, name) is not None}
        got["report_data"] = evidence.report_data(bundle.claims_raw, bundle.shared).hex()
        self.assertEqual(got, {name: expected[name] for name in got})
        self.assertEqual(set(expected) - set(got), {"file", "about", "expect", "nonce"})


    def test_launches(self) -> None:
        """Digests of launches of every form; an earlier version's has none."""
        launches = json.loads((VECTORS / "launches.json").read_text())
        self.assertGreater(len(launches), 13)
        for v in launches:
            with self.subTest(v["about"]):
                body = {name: canonical.encode(v[name]).decode() for name in ("launch", "image")}
                got = [d.hex() if d else None for d in evidence._launch_digests(body)]
                self.assertEqual(got, [v.get("launch_digest"), v.get("defaults_digest")])

    def test_texts(self) -> None:
        """Odd texts: each has one form, or is refused."""
        texts = json.loads((VECTORS / "texts.json").read_text())
        self.assertGreater(len(texts), 80)
        for v in texts:
            with self.subTest(v["about"]):
                if "form" in v:
                    want = hashlib.sha512(v["form"].encode()).digest()
                    self.assertEqual(evidence.report_data(v["text"]), want)
                    continue
                with self.assertRaises(MalformedError):
                    evidence.report_data(v["text"])

    def test_mutants_are_found_or_malformed(self) -> None:
        """Every changed bundle is refused with a CimaError, shows a
        difference, or reads as before."""
        text = (VECTORS / "bundles/beside.json").read_text()
        meant = json.loads(text)
        chance = random.Random(8785)
        seen = collections.Counter[str]()
        for _ in range(600):
            mutant = mutated(text, chance)
            try:
                bundle = evidence.parse(mutant)
                found = bundle.differences()
            except CimaError:
                seen["malformed"] += 1
                continue
            if found:
                seen["differs"] += 1
                continue
            # Neither the quote's signature nor the agent's is checked here.
            value = json.loads(mutant)
            for name in ("quote", "agent_signature", "tee"):
                value[name] = meant[name]
            self.assertEqual(value, meant)
        self.assertGreater(seen["malformed"], 50)
        self.assertGreater(seen["differs"], 5)


def mutated(text: str, chance: random.Random) -> str:
    """One change: a character, a piece cut out, or an event's bytes."""
    kind, at = chance.randrange(3), chance.randrange(len(text))
    if kind == 0:
        return text[:at] + chance.choice('{}[]":,0aZ/=\\ é\x00') + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at + chance.randrange(1, 60) :]
    bundle = json.loads(text)
    entry = chance.choice([e for e in bundle["runtime_log"] if "event" in e])
    raw = bytearray(base64.b64decode(entry["event"]))
    raw[chance.randrange(len(raw))] = chance.randrange(256)
    if chance.random() < 0.5:
        at = chance.randrange(8, len(raw))
        del raw[at : at + chance.randrange(1, 60)]
        raw[4:8] = (len(raw) - 8).to_bytes(4, "little")
    entry["event"] = base64.b64encode(raw).decode()
    return json.dumps(bundle, ensure_ascii=False, separators=(",", ":"))


class CanonicalTest(unittest.TestCase):
    def test_strings_and_order(self) -> None:
        # RFC 8785, sections 3.2.2 and 3.2.3.
        value = json.loads(
            r'{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew","1":"One",'
            r'"\ud83d\ude00":"Smiley","\u0080":"Control","\u00f6":"o"}'
        )
        keys = [key for key, _ in json.loads(canonical.encode(value), object_pairs_hook=list)]
        self.assertEqual(keys, ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"])
        self.assertEqual(canonical.encode('\u20ac$\x0f\nA\'B"\\\\"/\x7f').decode(), '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f"')

    def test_numbers(self) -> None:
        # RFC 8785, appendix B.
        for number, text in (
            (0.0, "0"),
            (-0.0, "0"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (9007199254740992, "9007199254740992"),
            (295147905179352830000, "295147905179352830000"),
            (9.999999999999997e22, "9.999999999999997e+22"),
            (1e23, "1e+23"),
            (1e21, "1e+21"),
            (999999999999999900000, "999999999999999900000"),
            (9.999999999999997e-7, "9.999999999999997e-7"),
            (0.000001, "0.000001"),
            (333333333.3333332, "333333333.3333332"),
            (-0.0000033333333333333333, "-0.0000033333333333333333"),
            (1424953923781206.2, "1424953923781206.2"),
        ):
            self.assertEqual(canonical.encode(number).decode(), text)
        with self.assertRaises(ValueError):
            canonical.encode(float("inf"))


class QuotesTest(unittest.TestCase):
    def test_quotes(self) -> None:
        known = 0
        for v in json.loads((VECTORS / "quotes.json").read_text()):
            with self.subTest(v["about"]):
                raw = base64.b64decode(v["quote"])
                if "fields" not in v:
                    with self.assertRaises(MalformedError):
                        parse_quote(raw)
                    continue
                known += 1
                q = parse_quote(raw)
                got = {name: value.hex() for name, value in vars(q.body).items() if isinstance(value, bytes)}
                got.update({f"rtmr{i}": r.hex() for i, r in enumerate(q.body.rtmr)}, version=str(q.header.version))
                got["extension"] = str(len(q.body.extension)) if q.body.extension else ""
                self.assertEqual({name: got[name] for name in v["fields"]}, v["fields"])
                self.assertEqual([hashlib.sha384(c).hexdigest() for c in q.signature.certificates], v["certificates"])
        self.assertEqual(known, 3)


if __name__ == "__main__":
    unittest.main()

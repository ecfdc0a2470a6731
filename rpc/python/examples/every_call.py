"""Makes every call by both clients, meets the errors that a caller can meet, and
outlives the daemon: it prints "restart", waits for a line, and goes on when the
daemon is there again, which then grants it nothing and allows few quotes.

It ends with "ok", or with an exception.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import sys
from typing import Any, Callable

from cima_client import AsyncClient, Client, Code, RPCError
from cima_client.evidence import quote_registers, report_data
from cima_client.replay import ZERO

FORMS = ("trustee", "trustee-request", "cmw", "cmw-cbor", "cel", "cel-tlv")

Ask = Callable[..., Any]


def main() -> None:
    loop = asyncio.new_event_loop()
    blocking, waiting = Client(patience=60), AsyncClient(patience=60)

    def ask_blocking(name: str, *arguments: Any, **named: Any) -> Any:
        answer = getattr(blocking, name)(*arguments, **named)
        return list(answer) if inspect.isgenerator(answer) else answer

    def ask_waiting(name: str, *arguments: Any, **named: Any) -> Any:
        answer = getattr(waiting, name)(*arguments, **named)
        if not inspect.isasyncgen(answer):
            return loop.run_until_complete(answer)

        async def collect() -> Any:
            return [element async for element in answer]

        return loop.run_until_complete(collect())

    both = (ask_blocking, ask_waiting)
    for ask in both:
        calls(ask)
        errors(ask)
    who = blocking.who_am_i()
    print("restart", flush=True)
    sys.stdin.readline()
    same(ask_blocking("get_measurement_count"), ask_waiting("get_measurement_count"))
    blocking.patience = waiting.patience = 0  # a rate limit is told, not waited out
    for ask in both:
        after(ask)
        same(ask("who_am_i").container.id, who.container.id if who.container else None)
    ask_blocking("close")
    ask_waiting("close")
    loop.close()
    print("ok")


def calls(ask: Ask) -> None:
    nonce = secrets.token_bytes(32)
    same(ask("who_am_i").host, None)
    same(ask("get_default_algorithm").algo_id, 12)
    same(ask("get_measurement_count"), 4)
    m = ask("get_measurements")
    same([ask("get_cc_measurement", i).hash for i in range(4)], [m.rtmr0, m.rtmr1, m.rtmr2, m.container])
    made = ask("extend_measurement", "example", "every-call", "python")
    whole = ask("events", page=7)
    same(whole[-1].digests[0].hash, made.digest)
    same(ask("get_cc_event_log").total, len(whole))
    compared = ask("compare_event_log")
    same([i for i, c in compared.items() if c.equal], [0, 1, 2, 3])
    same([i for i in (0, 1, 3) if compared[i].register == ZERO], [])
    for shared in (False, True):
        report = ask("get_cc_report", nonce, b"data", shared=shared)
        same(quote_registers(report.cc_report).report_data, report_data(report.claims, report.shared))
        evidence = ask("get_evidence", nonce, b"data", shared=shared)
        same(evidence.differences(), [])
        same(evidence.shared is not None, shared)
    for form in FORMS:
        same(len(ask("get_evidence_as", form, nonce)) > 1000, True)
    same("GetEvidence" in [m["name"] for m in ask("discover")["methods"]], True)


def errors(ask: Ask) -> None:
    same(refused(ask, "get_evidence", b"short").data["member"], "nonce")
    same(refused(ask, "call", "GetStatus").code, Code.METHOD_NOT_FOUND)
    long = refused(ask, "call", "WhoAmI", {"pid": "1" * 70000})
    same((long.code, long.data["limit"]), (Code.TOO_LARGE, 65536))
    content = refused(ask, "extend_measurement", "d", "o", "c" * 5000)
    same((content.code, content.data["limit"]), (Code.TOO_LARGE, 4096))


def after(ask: Ask) -> None:
    same([c.equal for c in ask("compare_event_log").values()], [True] * 4)
    same(refused(ask, "extend_measurement", "d", "o", "c").code, Code.DENIED)
    for _ in range(100):
        try:
            ask("get_cc_report", b"a nonce of this program's")
        except RPCError as e:
            same((e.code, e.retry_after > 0), (Code.RATE_LIMITED, True))
            return
    raise AssertionError("never limited")


def refused(ask: Ask, *call: Any) -> RPCError:
    try:
        ask(*call)
    except RPCError as e:
        return e
    raise AssertionError(f"{call[0]} was not refused")


def same(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"{got!r} instead of {wanted!r}")


if __name__ == "__main__":
    main()

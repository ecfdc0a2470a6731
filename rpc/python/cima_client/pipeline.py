"""pipeline answers: to which call does an answer belong?

Many calls may wait on one connection. Their requests have numbers; answers come in any
order. Nothing here reads or writes.
"""

from __future__ import annotations

import copy
import re
from typing import Any, Dict, Optional

from . import wire
from .errors import BrokenError, CimaError, Code, ProtocolError, RPCError

_OURS = re.compile(rb'\{"jsonrpc":"2\.0","id":([0-9]{1,15}),')


class Call:
    """A request that waits for its answer. ``wake`` is an event of whoever waits."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = False  # all of it: the daemon may have read it
        self.line: Optional[bytes] = None
        self.error: Optional[CimaError] = None
        self.wake: Any = None

    @property
    def done(self) -> bool:
        """Whether there is an answer, or an error."""
        return self.line is not None or self.error is not None

    def reply(self) -> wire.Reply:
        """The answer, or the error raised."""
        if self.error is not None:
            raise self.error
        return wire.read_reply(self.line or b"", self.number)

    def awake(self) -> None:
        """Wakes whoever waits for the call."""
        if self.wake is not None:
            self.wake.set()


class Pipeline:
    """The calls that wait on one connection, in the order of their requests."""

    def __init__(self) -> None:
        self.number = 0
        self.waiting: Dict[int, Call] = {}
        self.over = False
        """No other request can follow."""

    def begin(self) -> Call:
        """A new call."""
        if self.over:
            raise BrokenError("the connection ended", sent=False)
        self.number += 1
        call = self.waiting[self.number] = Call(self.number)
        return call

    def forget(self, call: Call) -> None:
        """Gives a call up; an answer that still comes for it is passed over."""
        self.waiting.pop(call.number, None)

    def deliver(self, line: bytes) -> None:
        """Gives a line to the call that it answers."""
        plain = _OURS.match(line)
        try:
            number = int(plain.group(1)) if plain else wire.reply_number(line)
        except RPCError as last:
            self._last_word(last)
            return
        except ProtocolError as error:
            self.end(error)
            return
        if not 0 < number <= self.number:
            self.end(ProtocolError(f"the daemon's reply is to request {number}, which was not made"))
            return
        if plain and line.startswith(b'"error":{"code":-32007', plain.end()):
            self.over = True  # it stops
        call = self.waiting.pop(number, None)
        if call is not None:
            call.line = line
            call.awake()

    def _last_word(self, error: RPCError) -> None:
        """Ends a connection that the daemon closes with an error about no request. The error
        is about the first line without an answer: the daemon has answered those before it,
        and reads none behind it."""
        if error.code == Code.RATE_LIMITED:
            self.end(error)
            return
        for number in list(self.waiting)[:1]:
            self._fail(self.waiting.pop(number), error)
        for call in self.waiting.values():
            call.sent = False
        self.end(error)

    def end(self, why: CimaError) -> None:
        """Ends all calls."""
        self.over = True
        for call in self.waiting.values():
            turned_away = isinstance(why, wire.TurnedAway)
            self._fail(call, why if call.sent or turned_away else BrokenError(str(why), sent=False))
        self.waiting.clear()

    @staticmethod
    def _fail(call: Call, why: CimaError) -> None:
        call.error = copy.copy(why)  # each call raises an error of its own
        call.awake()

    def next_reader(self) -> None:
        """Wakes one of those who wait, because nobody reads."""
        for call in self.waiting.values():
            if call.wake is not None:
                call.awake()
                return

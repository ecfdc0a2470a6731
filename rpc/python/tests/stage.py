"""stage answers: what do the tests talk to? A scripted daemon, or cimad-sim."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Callable, List, Optional

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "rpc" / "vectors"

HANG_UP = b""
"""In place of a reply: ends the connection."""

SILENCE = b"..."
"""In place of a reply: sends nothing and keeps the connection."""


class Scripted:
    """A daemon that answers each request line with the next of its replies.

    A reply without a newline is sent as it is and the connection ends.
    """

    def __init__(self, *replies: bytes, greeting: bytes = b"") -> None:
        self.directory = tempfile.mkdtemp(prefix="cima-p", dir="/tmp")
        self.path = os.path.join(self.directory, "cima.sock")
        self.replies = list(replies)
        self.greeting = greeting
        self.requests: List[bytes] = []
        self.links: List[socket.socket] = []
        self.listener: Optional[socket.socket] = None
        self.listen()

    def listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def stop(self) -> None:
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
            os.unlink(self.path)

    @property
    def connections(self) -> int:
        return len(self.links)

    def hang_up(self) -> None:
        """Ends all connections, as a restart does."""
        for link in self.links:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def close(self) -> None:
        self.hang_up()
        if self.listener is not None:
            self.stop()
        shutil.rmtree(self.directory)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            self.links.append(link)
            with link, link.makefile("rb") as lines:
                self._talk(link, lines.readline)

    def _talk(self, link: socket.socket, read: Callable[[], bytes]) -> None:
        if self.greeting:
            link.sendall(self.greeting)
            self.greeting = b""
            return
        while True:
            line = read()
            if not line:
                return
            self.requests.append(line)
            reply = self.replies.pop(0) if self.replies else HANG_UP
            if reply == SILENCE:
                continue
            link.sendall(reply)
            if not reply.endswith(b"\n"):
                return


def result(text: str, number: int = 1) -> bytes:
    return f'{{"jsonrpc":"2.0","id":{number},"result":{text}}}\n'.encode()


def error(code: int, number: Optional[int] = 1, data: str = "") -> bytes:
    more = f',"data":{data}' if data else ""
    name = "null" if number is None else str(number)
    return f'{{"jsonrpc":"2.0","id":{name},"error":{{"code":{code},"message":"m"{more}}}}}\n'.encode()


class Simulator:
    """A running cimad-sim: $CIMA_SIM, else bin/cimad-sim of this tree."""

    def __init__(self, quote_delay: str = "0s", config: str = "[limits]\nquotes_burst = 1000\n", platform: str = "tdx") -> None:
        program = os.environ.get("CIMA_SIM", str(ROOT / "bin" / "cimad-sim"))
        if not os.path.exists(program):
            raise unittest.SkipTest(f"left out: there is no {program}: make build")
        self.program = program
        self.directory = tempfile.mkdtemp(prefix="cima-p", dir="/tmp")
        self.socket = f"{self.directory}/run/cima/cima.sock"
        self.config = f"{self.directory}/cimad.toml"
        Path(self.config).write_text(config)  # the tests make more requests than a container does
        self.running: List[subprocess.Popen[bytes]] = []
        self._run(f"{self.directory}/td/td.sock", "td", "--dir", f"{self.directory}/td", "--quote-delay", quote_delay, "--platform", platform)
        self.start()

    def start(self) -> None:
        ready = f"{self.directory}/run/cima-admin/admin.sock"
        if os.path.exists(ready):
            os.unlink(ready)
        where = ("--td", f"{self.directory}/td/td.sock", "--runtime-dir", f"{self.directory}/run")
        self._run(ready, *where, "--config", self.config)

    def quotes(self) -> int:
        """How many quotes the hardware has made."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.connect(f"{self.directory}/run/cima-admin/admin.sock")
            admin.sendall(b'{"jsonrpc":"2.0","id":1,"method":"GetStatus","params":{"metrics":true}}\n')
            metrics = json.loads(admin.makefile("rb").readline())["result"]["metrics"]
        return int(metrics.split('cima_quotes_total{result="ok"} ')[1].split()[0])

    def stop(self) -> None:
        """Ends the daemon; the TD keeps running."""
        daemon = self.running.pop()
        daemon.terminate()
        daemon.wait()

    def close(self) -> None:
        while self.running:
            self.stop()
        shutil.rmtree(self.directory)

    def _run(self, made: str, *arguments: str) -> None:
        with open(f"{self.directory}/log", "ab") as log:
            self.running.append(subprocess.Popen([self.program, *arguments], stdout=log, stderr=log))
        for _ in range(500):
            if os.path.exists(made):
                return
            time.sleep(0.02)
        raise AssertionError(f"not ready after 10 s: {Path(self.directory, 'log').read_text()}")

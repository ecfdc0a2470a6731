"""evidence answers: what does a bundle hold, and do its logs explain it?

It reads bundles and replays their runtime log (cima-evidence(7)). It checks
no signature: whether a bundle is true, ``cimactl verify`` says.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import canonical, wire
from .errors import MalformedError, ProtocolError, ReplayError
from .platforms import TDX, TEES, Platform, bound as signed
from .replay import ZERO, extend
from .shared import Shared

PROFILE = "https://github.com/cima-project/cima/evidence/v2"

PRIVATE = "private"
"""The view of a log that leaves out other containers' events."""

_PUBLIC = frozenset(("start", "policy", "seal", "system", "power", "missed", "ima"))
_TAG = b"LEAA"  # 0x4141454C, little-endian
_DIGEST = 48

# Intel TDX DCAP quote, version 4: a header of 48 bytes, then the TD report;
# version 5 has 6 bytes more between them.
_BODY = {4: 48, 5: 54}
_MRTD, _RTMR, _REPORT_DATA, _BODY_END = 136, 328, 520, 584


@dataclass(frozen=True)
class QuoteRegisters:
    """The registers and report data in a TDX quote. The quote's signature is not checked."""

    mrtd: bytes
    rtmr: Tuple[bytes, bytes, bytes, bytes]
    report_data: bytes


def quote_registers(quote: bytes) -> QuoteRegisters:
    """Reads the registers of a quote of version 4 or 5."""
    start = _BODY.get(int.from_bytes(quote[:2], "little"))
    if start is None or len(quote) < start + _BODY_END:
        raise MalformedError("the quote must be a TDX quote of version 4 or 5")
    body = quote[start:]
    r = [body[at : at + _DIGEST] for at in range(_RTMR, _REPORT_DATA, _DIGEST)]
    return QuoteRegisters(body[_MRTD : _MRTD + _DIGEST], (r[0], r[1], r[2], r[3]), body[_REPORT_DATA:_BODY_END])


@dataclass(frozen=True)
class Event:
    """One event of the runtime log."""

    raw: bytes
    operation: str
    container: Optional[str]
    measured: Optional[str]
    """JCS of the measured object, None for an exit."""

    @property
    def digest(self) -> bytes:
        """The digest that extended RTMR3."""
        return hashlib.sha384(self.raw).digest()

    @property
    def public(self) -> bool:
        """Whether every caller sees the event."""
        return self.operation in _PUBLIC


def read_event(raw: bytes) -> Event:
    """Reads an event's bytes: a TCG tagged event in AAEL form."""
    try:
        if raw[:4] != _TAG or int.from_bytes(raw[4:8], "little") != len(raw) - 8:
            raise ValueError("must be an AAEL event")
        domain, operation, content = raw[8:].decode().split(" ", 2)
        if domain != "cima":
            raise ValueError(f"domain {domain!r} is unknown")
        parts = wire.members(content)
        if set(parts) - {"container", "measured", "salt"} or ("measured" in parts) == (operation == "exit"):
            raise ValueError(f"members {sorted(parts)} are not those of an event")
        if "measured" in parts and set(wire.members(parts["measured"][0])) != {operation}:
            raise ValueError(f"the measured object must be named {operation!r}")
    except (ValueError, RecursionError) as e:
        raise MalformedError(f"runtime event: {e}") from None
    container = parts.get("container", ("", None))[1]
    return Event(raw, operation, container, parts["measured"][0] if "measured" in parts else None)


@dataclass(frozen=True)
class LogEntry:
    """One event, or the digests of a run of events of other containers."""

    event: Optional[Event]
    digests: Tuple[bytes, ...]


@dataclass(frozen=True)
class Replay:
    """The registers that the runtime log replays to. ``container`` is None in evidence about the
    host, ``launch_digest`` and ``defaults_digest`` there too, and where a daemon of an earlier
    version logged the launch. Of a private log (``claims["log"]["view"]`` is
    PRIVATE) ``rtmr3`` and ``register`` mean nothing, because events are missing."""

    rtmr3: bytes
    register: bytes
    public: bytes
    container: Optional[bytes]
    launch_digest: Optional[bytes]
    defaults_digest: Optional[bytes]


@dataclass(frozen=True)
class Evidence:
    """A bundle. ``raw`` is its JSON as it came, ``claims`` the claims parsed,
    ``claims_raw`` as they came; ``shared`` is None where the quote is the
    caller's alone. ``tee`` says who signs, and ``platform`` is what stands beside its quote,
    None of a TD."""

    raw: str
    quote: bytes
    claims: Mapping[str, Any]
    claims_raw: str
    shared: Optional[Shared]
    agent_signature: bytes
    boot_log: bytes
    os_logs: Tuple[Mapping[str, Any], ...]
    runtime_log: Tuple[LogEntry, ...]
    tee: str = TDX
    platform: Optional[Platform] = None

    def replay(self) -> Replay:
        """Replays the runtime log: the whole log to RTMR3, its first
        ``log.count`` events to the registers that the claims name."""
        count = wire.integer(wire.member(self.claims, "log"), "count")
        about = self.claims.get("container")
        owner = wire.string(about, "id") if about is not None else None
        rtmr3 = register = public = own = ZERO
        launch: Dict[str, str] = {}
        position = 0
        for entry in self.runtime_log:
            for digest in entry.digests:
                rtmr3 = extend(rtmr3, digest)
                position += 1
                if position <= count:
                    register = rtmr3
            event = entry.event
            if event is None or position > count or event.measured is None:
                continue
            measured = hashlib.sha384(event.measured.encode()).digest()
            if event.public:
                public = extend(public, measured)
            elif event.container == owner:
                if event.operation == "launch":
                    own, launch = ZERO, {}
                own = extend(own, measured)
                launch[event.operation] = wire.members(event.measured)[event.operation][0]
        if owner is None:
            return Replay(rtmr3, register, public, None, None, None)
        return Replay(rtmr3, register, public, own, *_launch_digests(launch))

    def _shows_own_alone(self, most: int) -> bool:
        about = self.claims.get("container")
        owner = wire.string(about, "id") if about is not None else None
        events = [entry.event for entry in self.runtime_log]
        return len(events) <= most and all(e is not None and (e.public or e.container == owner) for e in events)

    def differences(self) -> List[str]:
        """The contradictions between quote, claims and logs; empty if there
        are none. No signature is checked, nor, where a TPM's PCR holds the log, that PCR."""
        log, replayed = wire.member(self.claims, "log"), self.replay()
        quote = quote_registers(self.quote) if self.tee == TDX else None
        try:
            bound = report_data(self.claims_raw, self.shared)
        except ReplayError as e:
            return [str(e)]
        pairs = [("REPORTDATA", quote.report_data, bound)] if quote else signed(self.tee, self.quote, self.platform, bound)
        pairs += [
            ("boot_log", wire.digest(self.claims, "boot_log"), hashlib.sha384(self.boot_log).digest()),
            ("log.public", wire.digest(log, "public"), replayed.public),
        ]
        # A private log lacks other containers' events, so it gives neither.
        if wire.string(log, "view", "") == PRIVATE:
            if not self._shows_own_alone(wire.integer(log, "count")):
                return ["more is shown than a private log's own and public events"]
        else:
            pairs.append(("log.register", wire.digest(log, "register"), replayed.register))
            if quote and wire.string(log, "anchor") == "rtmr3":
                pairs.append(("RTMR3", quote.rtmr[3], replayed.rtmr3))
        if "container" in self.claims:
            about = wire.member(self.claims, "container")
            pairs.append(("container.register", wire.digest(about, "register"), replayed.container or b""))
            pairs.append(("container.launch_digest", wire.optional_digest(about, "launch_digest") or b"", replayed.launch_digest or b""))
            pairs.append(("container.defaults_digest", wire.optional_digest(about, "defaults_digest") or b"", replayed.defaults_digest or b""))
        return [f"{name}: {said.hex()}, recomputed {got.hex()}" for name, said, got in pairs if said != got]


def report_data(claims: str, shared: Optional[Shared] = None) -> bytes:
    """The report data that the quote must have: SHA-512 over the RFC 8785 form of the claims,
    or the value that follows from that and ``shared``. Raises ReplayError where
    ``shared`` has no valid path."""
    try:
        own = hashlib.sha512(canonical.encode(canonical.read(claims))).digest()
    except ValueError as e:
        raise MalformedError(f"claims: {e}") from None
    return own if shared is None else shared.report_data(own)


def _launch_digests(measured: Mapping[str, str]) -> Tuple[Optional[bytes], Optional[bytes]]:
    """The digests of a launch; None where there is none."""
    if "launch" not in measured or "image" not in measured:
        return None, None
    parts = wire.members(measured["launch"])
    launch = {name: value for name, (_, value) in parts.items()}
    if "user" in launch and "capabilities" in launch:
        return None, None  # an earlier version's

    def part(name: str) -> Optional[bytes]:
        if name in parts:
            return hashlib.sha384(parts[name][0].encode()).digest()
        return wire.optional_digest(launch, name + "_sha384")

    image = wire.mapping(json.loads(measured["image"]))
    config = launch.get("image_config") or image.get("digest")
    manifest = image.get("manifest")
    over: Dict[str, Any] = {"cgroup_owner": launch.get("cgroup_owner"), "source": launch.get("source")}
    over["image"] = {"config": config} if config else {"manifest": manifest} if manifest else {"absent": image.get("absent", "")}
    asked = part("asked")
    if asked is not None:
        over["asked"] = asked.hex()
    return hashlib.sha384(canonical.encode(over)).digest(), part("defaults")


_MEMBERS = frozenset(
    ("profile", "tee", "quote", "claims", "shared", "agent_signature", "boot_log", "os_logs", "runtime_log", "platform")
)


def parse(text: str) -> Evidence:
    """Reads a bundle. Raises MalformedError."""
    try:
        parts = wire.members(text)
        value = {name: parsed for name, (_, parsed) in parts.items()}
        unknown = set(value) - _MEMBERS
        if unknown:
            raise ValueError(f"unknown members {sorted(unknown)}")
        if wire.string(value, "profile") != PROFILE:
            raise ValueError("the profile must be that of cima-evidence(7)")
        tee = wire.string(value, "tee")
        if tee not in TEES:
            raise ValueError(f"the tee must be one of {sorted(TEES)}")
        return Evidence(
            raw=text,
            quote=wire.data(value, "quote"),
            claims=wire.mapping(value.get("claims")),
            claims_raw=parts["claims"][0],
            shared=Shared.read(value["shared"]) if "shared" in value else None,
            agent_signature=wire.data(value, "agent_signature"),
            boot_log=wire.data(value, "boot_log"),
            os_logs=tuple(wire.mapping(log) for log in value.get("os_logs", [])),
            runtime_log=tuple(_entry(entry) for entry in wire.sequence(value, "runtime_log")),
            tee=tee,
            platform=Platform.read(tee, value["platform"] if "platform" in value else None, "platform" in value),
        )
    except (ValueError, RecursionError, ProtocolError) as e:
        raise MalformedError(f"evidence: {e}") from None


def _entry(value: Any) -> LogEntry:
    if set(wire.mapping(value)) == {"event"}:
        event = read_event(wire.data(value, "event"))
        return LogEntry(event, (event.digest,))
    if set(value) == {"digests"}:
        run = wire.data(value, "digests")
        if run and len(run) % _DIGEST == 0:
            return LogEntry(None, tuple(run[at : at + _DIGEST] for at in range(0, len(run), _DIGEST)))
    raise ValueError("an entry of the runtime log must have an event, or digests of 48 bytes")

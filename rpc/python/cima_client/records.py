"""records answers: what do the daemon's methods return?

Each class is a result of cima-api(7), its members under the names there.
Digests and other binary members are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from . import wire
from .errors import ProtocolError
from .shared import Shared

SHA384 = 12
"""TPM_ALG_SHA384 of the TCG Algorithm Registry, the only algo_id."""

TDX = 1
"""cc_type of an Intel TDX quote."""


@dataclass(frozen=True)
class DefaultAlgorithm:
    """The algorithm of every digest: 12, "sha384"."""

    algo_id: int
    algorithm: str

    @classmethod
    def read(cls, v: Any) -> DefaultAlgorithm:
        """Reads it from a result."""
        return cls(wire.integer(v, "algo_id"), wire.string(v, "algorithm"))


@dataclass(frozen=True)
class CCMeasurement:
    """What one register holds: 48 bytes."""

    index: int
    algo_id: int
    hash: bytes

    @classmethod
    def read(cls, v: Any) -> CCMeasurement:
        """Reads it from a result."""
        return cls(wire.integer(v, "index"), wire.integer(v, "algo_id"), wire.digest(v, "hash"))


@dataclass(frozen=True)
class EventDigest:
    """One digest of an event, in an algorithm of the TCG Algorithm Registry."""

    algo_id: int
    hash: bytes

    @classmethod
    def read(cls, v: Any) -> EventDigest:
        """Reads it from a result."""
        return cls(wire.integer(v, "algo_id"), wire.digest(v, "hash"))


@dataclass(frozen=True)
class EventRecord:
    """One event: of RTMR0-2 (``imr_index`` 0-2) or of the container register (3)."""

    rec_num: int
    imr_index: int
    event_type: int
    digests: Tuple[EventDigest, ...]
    event_size: int
    event: bytes
    extra_info: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, v: Any) -> EventRecord:
        """Reads it from a result."""
        event = wire.data(v, "event")
        extra = wire.mapping(wire.mapping(v).get("extra_info", {}))
        record = cls(
            rec_num=wire.integer(v, "rec_num"),
            imr_index=wire.integer(v, "imr_index"),
            event_type=wire.integer(v, "event_type"),
            digests=tuple(EventDigest.read(d) for d in wire.sequence(v, "digests")),
            event_size=wire.integer(v, "event_size"),
            event=event,
            extra_info={key: wire.string(extra, key) for key in extra},
        )
        if record.event_size != len(event):
            raise ProtocolError(f"record {record.rec_num} must have {record.event_size} bytes, not {len(event)}")
        return record


@dataclass(frozen=True)
class CCEventLog:
    """A page. ``next`` is the start of the next one, None on the last."""

    events: Tuple[EventRecord, ...]
    total: int
    next: Optional[int]

    @classmethod
    def read(cls, v: Any) -> CCEventLog:
        """Reads it from a result."""
        following = wire.integer(v, "next") if "next" in wire.mapping(v) else None
        events = tuple(EventRecord.read(e) for e in wire.sequence(v, "events"))
        return cls(events, wire.integer(v, "total"), following)


@dataclass(frozen=True)
class CCReport:
    """A quote and the claims that it is bound to. ``claims`` are the claims'
    JSON as it came: :func:`cima_client.evidence.report_data` says from it and
    ``shared`` what the quote's REPORTDATA is. ``shared`` is None where the
    quote is not shared."""

    cc_type: int
    cc_report: bytes
    claims: str
    agent_signature: bytes
    shared: Optional[Shared] = None

    @classmethod
    def read(cls, reply: wire.Reply) -> CCReport:
        """Reads it from a whole reply, because the quote is bound to the claims' exact bytes."""
        v = reply.value
        wire.mapping(wire.member(v, "claims"))
        claims = wire.members(reply.text)["claims"][0]
        shared = Shared.read(v["shared"]) if "shared" in v else None
        return cls(wire.integer(v, "cc_type"), wire.data(v, "cc_report"), claims, wire.data(v, "agent_signature"), shared)


@dataclass(frozen=True)
class Measurements:
    """All registers by name; ``container`` and ``launch_digest`` are None for
    a caller on the host."""

    mrtd: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    public: bytes
    container: Optional[bytes]
    launch_digest: Optional[bytes]

    @classmethod
    def read(cls, v: Any) -> Measurements:
        """Reads it from a result."""
        names = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "public")
        always: Dict[str, bytes] = {name: wire.digest(v, name) for name in names}
        return cls(
            **always,
            container=wire.optional_digest(v, "container"),
            launch_digest=wire.optional_digest(v, "launch_digest"),
        )


@dataclass(frozen=True)
class Extended:
    """The register and digest of an event that the container made."""

    index: int
    digest: bytes

    @classmethod
    def read(cls, v: Any) -> Extended:
        """Reads it from a result."""
        return cls(wire.integer(v, "index"), wire.digest(v, "digest"))


@dataclass(frozen=True)
class Assurance:
    """How the daemon identified a caller.

    ``start`` is "gated" (measured before its first instruction) or "observed",
    ``pidfd`` whether the kernel named the very process, ``cgroup_owner`` the uid
    that owns the cgroup chain, ``metadata`` where the facts came from.
    """

    start: str
    pidfd: bool
    cgroup_owner: int
    metadata: str

    @classmethod
    def read(cls, v: Any) -> Assurance:
        """Reads it from a result."""
        return cls(
            wire.string(v, "start"),
            wire.member(v, "pidfd") is True,
            wire.integer(v, "cgroup_owner"),
            wire.string(v, "metadata"),
        )


@dataclass(frozen=True)
class Pod:
    """A pod of Kubernetes, and which of its containers this is. What isn't known is empty; a
    pod's first container, which holds its namespaces, has no name."""

    namespace: str
    name: str
    uid: str
    container: str

    @classmethod
    def read(cls, v: Any) -> Pod:
        """Reads it from a result."""
        return cls(*(wire.string(v, name, "") for name in ("namespace", "name", "uid", "container")))


@dataclass(frozen=True)
class ContainerIdentity:
    """The caller's container, and how it was identified. ``image`` and ``image_digest`` are
    empty where they aren't known, ``launch_digest`` is None until the launch is in the log;
    ``cgroup`` is the declared path. ``pod`` is None for a container of no pod, and until the
    launch is in the log."""

    id: str
    runtime: str
    image: str
    image_digest: str
    launch_digest: Optional[bytes]
    cgroup: str
    assurance: Assurance
    pod: Optional[Pod] = None

    @classmethod
    def read(cls, v: Any) -> ContainerIdentity:
        """Reads it from a result."""
        return cls(
            id=wire.string(v, "id"),
            runtime=wire.string(v, "runtime"),
            image=wire.string(v, "image", ""),
            image_digest=wire.string(v, "image_digest", ""),
            launch_digest=wire.optional_digest(v, "launch_digest"),
            cgroup=wire.string(v, "cgroup"),
            assurance=Assurance.read(wire.member(v, "assurance")),
            pod=Pod.read(v["pod"]) if "pod" in v else None,
        )


@dataclass(frozen=True)
class HostIdentity:
    """A process in no container: its uid and systemd unit ("" if it has none)."""

    uid: int
    unit: str

    @classmethod
    def read(cls, v: Any) -> HostIdentity:
        """Reads it from a result."""
        return cls(wire.integer(v, "uid"), wire.string(v, "unit", ""))


@dataclass(frozen=True)
class Identity:
    """The caller's identity as the daemon sees it; one of ``container`` and ``host`` is None."""

    pid: int
    uid: int
    gid: int
    container: Optional[ContainerIdentity]
    host: Optional[HostIdentity]

    @classmethod
    def read(cls, v: Any) -> Identity:
        """Reads it from a result."""
        container, host = wire.mapping(v).get("container"), v.get("host")
        if (container is None) == (host is None):
            raise ProtocolError("an identity must be a container's or the host's")
        return cls(
            pid=wire.integer(v, "pid"),
            uid=wire.integer(v, "uid"),
            gid=wire.integer(v, "gid"),
            container=None if container is None else ContainerIdentity.read(container),
            host=None if host is None else HostIdentity.read(host),
        )

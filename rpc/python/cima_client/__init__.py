"""cima_client answers: how does a Python program ask cimad?

>>> from cima_client import Client
>>> with Client() as cima:
...     bundle = cima.get_evidence(nonce).raw

:class:`Client` is synchronous, :class:`AsyncClient` for asyncio. Nothing but
the standard library is needed.
"""

from .aio import AsyncClient
from .client import Client
from .errors import (
    BrokenError,
    CimaError,
    Code,
    MalformedError,
    ProtocolError,
    ReplayError,
    RPCError,
    UnknownOutcomeError,
    UnreachableError,
)
from .evidence import Evidence
from .records import (
    CCEventLog,
    CCMeasurement,
    CCReport,
    DefaultAlgorithm,
    EventDigest,
    EventRecord,
    Extended,
    Identity,
    Measurements,
)
from .shared import Shared

__version__ = "0.0.0"

__all__ = [
    "AsyncClient",
    "BrokenError",
    "CCEventLog",
    "CCMeasurement",
    "CCReport",
    "CimaError",
    "Client",
    "Code",
    "DefaultAlgorithm",
    "EventDigest",
    "EventRecord",
    "Evidence",
    "Extended",
    "Identity",
    "MalformedError",
    "Measurements",
    "ProtocolError",
    "RPCError",
    "ReplayError",
    "Shared",
    "UnknownOutcomeError",
    "UnreachableError",
]

"""Every public name says what it is."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import unittest
from typing import Any, Iterator, Tuple

import cima_client


def public() -> Iterator[Tuple[str, Any]]:
    """Modules, their classes and functions, and the methods of these."""
    yield "cima_client", cima_client
    for found in pkgutil.iter_modules(cima_client.__path__):
        if found.name == "__main__":
            continue
        module = importlib.import_module(f"cima_client.{found.name}")
        yield module.__name__, module
        for name, of in vars(module).items():
            if name.startswith("_") or getattr(of, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(of) or inspect.isfunction(of):
                yield f"{module.__name__}.{name}", of
            if inspect.isclass(of):
                for part, what in vars(of).items():
                    plain = what.__func__ if isinstance(what, (classmethod, staticmethod)) else what
                    if not part.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                        yield f"{module.__name__}.{name}.{part}", plain


class DocsTest(unittest.TestCase):
    def test_each(self) -> None:
        names = 0
        for name, of in public():
            names += 1
            doc = inspect.getdoc(of) if inspect.isclass(of) else of.__doc__
            # A dataclass without a docstring gets its signature as one.
            if not doc or doc.startswith(f"{name.rpartition('.')[2]}("):
                self.fail(f"{name} has no docstring")
        self.assertGreater(names, 100)


if __name__ == "__main__":
    unittest.main()

"""wheel_of_one answers: how does this package become a wheel?

A build backend (PEP 517) for one pure Python package, with nothing but the
standard library. The same tree gives the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, Mapping, Optional

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cima_client"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that zip can store

Settings = Optional[Mapping[str, str]]


def field(name: str) -> str:
    """A string of pyproject.toml's [project]; Python 3.9 has no tomllib."""
    found = re.search(rf'^{name} = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"pyproject.toml must have {name}")
    return found.group(1)


def metadata() -> bytes:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {field('name')}",
        f"Version: {field('version')}",
        f"Summary: {field('description')}",
        f"License-Expression: {field('license')}",
        "License-File: LICENSE",
        f"Requires-Python: {field('requires-python')}",
        "Description-Content-Type: text/markdown",
        "",
        (ROOT / "README.md").read_text(),
    ]
    return "\n".join(lines).encode()


def package_files() -> Dict[str, bytes]:
    paths = (p for p in sorted((ROOT / PACKAGE).iterdir()) if p.suffix == ".py" or p.name == "py.typed")
    return {f"{PACKAGE}/{p.name}": p.read_bytes() for p in paths}


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: Optional[str] = None) -> str:
    info = f"{PACKAGE}-{field('version')}.dist-info"
    files = package_files()
    files[f"{info}/METADATA"] = metadata()
    files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: wheel_of_one\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = [f"{name},sha256={record_hash(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    name = f"{PACKAGE}-{field('version')}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return name


def record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    base = f"{PACKAGE}-{field('version')}"
    files = package_files()
    for name in ("pyproject.toml", "README.md", "LICENSE", "build_backend/wheel_of_one.py"):
        files[name] = (ROOT / name).read_bytes()
    files["PKG-INFO"] = metadata()
    name = f"{base}.tar.gz"
    with open(Path(sdist_directory) / name, "wb") as out:
        with gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            for path, data in files.items():
                entry = tarfile.TarInfo(f"{base}/{path}")
                entry.size = len(data)
                entry.mode = 0o644
                tar.addfile(entry, io.BytesIO(data))
    return name

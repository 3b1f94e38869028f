"""Certificates for tests: an authority, and what it signs. Made with the program openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    file: Path
    key: Path


class Authority:
    """Signs certificates. `certificate` is its own, which clients trust."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            *("req", "-x509", *_KEY, "-subj", f"/CN={name}", "-days", "2"),
            *("-keyout", self._key, "-out", self.certificate),
        )

    def sign(self, name: str, *, hosts: str) -> Certificate:
        """A certificate for these hosts, as openssl names them: `DNS:localhost,IP:127.0.0.1`."""
        signed = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={hosts}\n")
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", signed.key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", signed.file),
        )
        signed.key.chmod(0o600)
        return signed


def authority(folder: Path, name: str) -> Authority:
    """A new authority. Skips the test if there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Authority(folder, name)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)

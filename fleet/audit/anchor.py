"""Copies the head of the chain to a file outside the database, out of reach of anyone who rewrites the trail there.

Each line of an anchor file is one head: `NUMBER:DIGEST TIME`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from fleet import errors
from fleet.audit.models import Seal

log = logging.getLogger("fleet.audit")

HEAD = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


def line(seal: Seal) -> str:
    return f"{seal.number}:{seal.digest} {seal.at.isoformat()}"


def head() -> Seal | None:
    return Seal.objects.order_by("-number").first()


def read(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and digest of each head in an anchor file; raises Invalid if a line is not a head."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.Invalid(f"The anchor file {path} cannot be read: {error}") from error
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        match = HEAD.match(text)
        if match is None:
            raise errors.Invalid(
                f"Line {number} of {path} is not a head of the chain.",
                hint="Each line must be NUMBER:DIGEST TIME. Remove the line if a full disk cut it off.",
            )
        yield int(match[1]), match[2]


class Anchor:
    """Appends each new head to the file FLEET_AUDIT_ANCHOR. The control loop calls it after sealing."""

    def __init__(self) -> None:
        self._digest = ""  # of the last head written
        self._failed = False

    def append_head(self) -> None:
        """Append the current head if it is new. A failure is logged once, and the next call tries again."""
        if not settings.FLEET_AUDIT_ANCHOR:
            return
        seal = head()
        if seal is None or seal.digest == self._digest:
            return
        try:
            with open(settings.FLEET_AUDIT_ANCHOR, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(f"{line(seal)}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if not self._failed:
                log.warning("the head of the audit trail could not be written to FLEET_AUDIT_ANCHOR: %s", error)
            self._failed = True
        else:
            self._digest, self._failed = seal.digest, False

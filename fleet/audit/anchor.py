"""The chain's head, kept outside the database: who rewrites the trail there cannot rewrite what this file, or the log that it
is shipped to, has said before. One line a head: `NUMBER:DIGEST TIME`."""

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
    """The heads of an anchor file. Invalid where a line is none, which a full disk may have cut off."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise errors.Invalid(f"{path} cannot be read as an anchor: {fault}") from fault
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        found = HEAD.match(text)
        if found is None:
            raise errors.Invalid(
                f"Line {number} of {path} is no head of the chain.", hint="It reads NUMBER:DIGEST TIME."
            )
        yield int(found[1]), found[2]


class Anchor:
    """Appends each new head to the file of FLEET_AUDIT_ANCHOR; for the control loop, after it has sealed."""

    def __init__(self) -> None:
        self._digest = ""  # of the head that was written last
        self._failed = False

    def keep(self) -> None:
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
        except OSError as fault:  # the fleet goes on; the next head is tried again
            if not self._failed:
                log.warning("The audit trail's head could not be written to FLEET_AUDIT_ANCHOR: %s", fault)
            self._failed = True
        else:
            self._digest, self._failed = seal.digest, False

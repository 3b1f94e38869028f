"""What attempts themselves write, and whether two of one sortie did so at the same time.

Each line is `srt_…/2 1234.56`: the marker and the seconds since the host's boot, which nobody sets.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

NOTE = 'read s _ < /proc/uptime; echo "$FLEET_ATTEMPT $s" >> {path}'


def spans(text: str) -> dict[str, dict[int, tuple[float, float]]]:
    """By sortie and attempt: its first and last line. A line that was cut by a kill counts for nothing."""
    found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for line in text.splitlines():
        match line.split(" "):
            case [marker, moment] if "/" in marker and moment.count(".") == 1 and len(moment.partition(".")[2]) == 2:
                sortie, _, number = marker.partition("/")
                first, _ = found[sortie].get(int(number), (float(moment), 0.0))
                found[sortie][int(number)] = (first, float(moment))
    return found


def check(*paths: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """Fail where an attempt wrote after a later one of its sortie had begun to."""
    found = spans("".join(path.read_text() for path in paths if path.exists()))
    for sortie, attempts in found.items():
        numbers = sorted(attempts)
        for earlier, later in pairwise(numbers):
            assert attempts[earlier][1] <= attempts[later][0], (
                f"{sortie}: attempt {earlier} wrote until {attempts[earlier][1]}, attempt {later} from {attempts[later][0]}"
            )
    return found

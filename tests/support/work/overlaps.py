"""Checks, from lines that attempts write while they run, that no two attempts of a sortie ran at the same time.

Each line is `srt_…/2 1234.56`: the attempt's marker and the seconds since the host booted, a clock that nobody can set.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

RECORD_TIME = 'read s _ < /proc/uptime; echo "$FLEET_ATTEMPT $s" >> {path}'


def spans(text: str) -> dict[str, dict[int, tuple[float, float]]]:
    """The times of the first and the last line, by sortie and attempt. Ignores lines that a kill cut short."""
    times: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    for line in text.splitlines():
        match line.split(" "):
            case [marker, moment] if "/" in marker and moment.count(".") == 1 and len(moment.partition(".")[2]) == 2:
                sortie, _, number = marker.partition("/")
                first, _ = times[sortie].get(int(number), (float(moment), 0.0))
                times[sortie][int(number)] = (first, float(moment))
    return times


def check(*paths: Path) -> dict[str, dict[int, tuple[float, float]]]:
    """Fail if an attempt wrote after a later attempt of its sortie had begun to write. Returns `spans`."""
    times = spans("".join(path.read_text() for path in paths if path.exists()))
    for sortie, attempts in times.items():
        for earlier, later in pairwise(sorted(attempts)):
            assert attempts[earlier][1] <= attempts[later][0], (
                f"{sortie}: attempt {earlier} wrote until {attempts[earlier][1]}, attempt {later} from {attempts[later][0]}"
            )
    return times

"""What things that events happened to are called. Apps register how the names of their nouns are looked up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from fleet.events.models import Event

Lookup = Callable[[Collection[UUID]], Mapping[UUID, str]]
_lookups: dict[str, Lookup] = {}


def register(noun: str, lookup: Lookup) -> None:
    """`lookup` gives the names of subjects of kinds that begin with `noun.`, as far as they are still there."""
    _lookups[noun] = lookup


def name(events: Sequence[Event]) -> None:
    """Set `name` of each event whose noun has names; one query for each such noun, however many events there are."""
    for noun, lookup in _lookups.items():
        of_noun = [event for event in events if event.subject and event.kind.startswith(f"{noun}.")]
        if of_noun:
            names = lookup({event.subject for event in of_noun if event.subject})
            for event in of_noun:
                event.name = names.get(event.subject) if event.subject else None

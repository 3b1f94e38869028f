"""Looks up the names of the subjects of events. Apps register a lookup for each of their nouns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from fleet import registrations
from fleet.events.models import Event

Lookup = Callable[[Collection[UUID]], Mapping[UUID, str]]
_lookups: dict[str, Lookup] = {}


def register(noun: str, lookup: Lookup) -> None:
    """Register the lookup for kinds that begin with `noun.`; it returns the names of the subjects that still exist."""
    _lookups[noun] = lookup


def set_names(events: Sequence[Event]) -> None:
    """Set the `name` of each event whose noun has a lookup, with one query per noun."""
    registrations.load()
    for noun, lookup in _lookups.items():
        of_noun = [event for event in events if event.subject and event.kind.startswith(f"{noun}.")]
        if of_noun:
            names = lookup({event.subject for event in of_noun if event.subject})
            for event in of_noun:
                event.name = names.get(event.subject) if event.subject else None

"""The artifacts that checkpoints and imports name.

Their bytes stay in the store as long as a checkpoint or an attempt names them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db.models import Q

from checkpoints import spooling, storage
from checkpoints.models import Checkpoint
from checkpoints.spooling import Spool
from missions.artifacts import collection
from missions.models import Artifact, Mission


def in_use(digests: Collection[str]) -> set[str]:
    """The artifacts among these that a checkpoint names; all of them if a checkpoint is damaged."""
    unused = set(digests)
    read_blobs: set[str] = set()
    try:
        for ref in storage.manifests():
            for entry in storage.read_manifest(ref).missions:
                for part in entry.buckets.values():
                    if unused and part.blob not in read_blobs:
                        read_blobs.add(part.blob)
                        content = storage.read(part)
                        unused -= {digest for digest in unused if digest in content}
    except storage.Damaged:
        return set(digests)
    return set(digests) - unused


def named_by(checkpoints: Iterable[Checkpoint]) -> set[str]:
    """The digests of all artifacts that these checkpoints name, as far as their files can be read."""
    digests: set[str] = set()
    read_blobs: set[str] = set()
    for checkpoint in checkpoints:
        try:
            for entry in storage.read_manifest(checkpoint.ref).missions:
                for part in entry.buckets.values():
                    if part.blob not in read_blobs:
                        read_blobs.add(part.blob)
                        lines = storage.read_bucket(part).state.values()
                        digests |= {artifact["digest"] for line in lines for artifact in json.loads(line)["artifacts"]}
        except storage.Damaged:
            continue
    return digests


def readable(digests: Collection[str], spool: Spool, by: User | None) -> set[str]:
    """Those of an import's artifacts that the importer may read: in the file, or of missions that they may see.

    `by` None: the host's operator.
    """
    if by is None or by.is_superuser:
        known = {digest for digest in digests if collection.has(digest)}
    else:
        visible = Mission.objects.filter(Q(created_by=by) | Q(team__in=by.groups.all()))
        rows = Artifact.objects.filter(digest__in=digests, sortie__mission__in=visible)
        known = {digest for digest in rows.values_list("digest", flat=True) if collection.has(digest)}
    return known | spool.files.keys()


@contextmanager
def stored(spool: Spool) -> Iterator[None]:
    """Store the artifacts of the file; if the block fails, remove those that nothing refers to."""
    added: list[str] = []
    try:
        for digest in spool.files:
            if not collection.has(digest):
                added.append(digest)
                with spool.open(digest) as file, spooling.translate_disk_errors():
                    collection.add(digest, file)
        yield
    except BaseException:
        used = set(Artifact.objects.filter(digest__in=added).values_list("digest", flat=True))
        for digest in set(added) - used:
            collection.forget(digest)
        raise

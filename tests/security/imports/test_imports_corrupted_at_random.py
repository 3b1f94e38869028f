"""A randomly corrupted file is refused and leaves no trace, or is imported whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from checkpoints.files import storage
from fleet import errors
from missions.engine.process.runtime import Engine
from missions.models import Sortie
from tests.security.imports.tampered_exports import export_ended_mission, export_live_mission, stored_state
from tests.support.work.archives import OpenedExport, import_bytes

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_corrupted_file_is_refused_or_still_the_same(
    corpus: tuple[list[bytes], set[str]], data: st.DataObject
) -> None:
    files, digests = corpus
    file = bytearray(data.draw(st.sampled_from(files)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(file) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "zero", "copy"])):
            case "flip" if file:
                file[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del file[at:]
            case "insert":
                file[at:at] = data.draw(st.binary(min_size=1, max_size=600))
            case "remove":
                del file[at : at + data.draw(st.sampled_from([1, 7, 512, 1024]))]
            case "zero":
                length = len(file[at : at + 512])
                file[at : at + length] = bytes(length)
            case _:
                block = at - at % 512
                file[block:block] = file[block : block + 512]
    check(bytes(file), digests)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_resealed_change_is_refused_or_imported_whole(
    corpus: tuple[list[bytes], set[str]], data: st.DataObject
) -> None:
    """The digests match, so only the checks of the lines protect the database."""
    files, _ = corpus
    export = OpenedExport.of(data.draw(st.sampled_from(files)))
    key = data.draw(st.sampled_from(sorted(export.state)))
    change = lambda document: mutate(document, data)  # noqa: E731
    match data.draw(st.sampled_from(["state", "kept", "mission", "kept mission"])):
        case "state":
            export.change(key, change)
        case "kept":
            export.change_kept(key, change)
        case "mission":
            export.change_mission(change)
        case _:
            export.change_mission(change, line=1)
    check(export.reseal(), None)


STATES_AND_KEYS = ["due", "pending", "succeeded", "failed", "skipped", "cancelled", "live", "top", "left"]
EXTREMES = [2**31, 2**63, 1e308, "9" * 300, "infinity", "\0", -1]
WORDS = st.sampled_from([*STATES_AND_KEYS, *EXTREMES])
JSON = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def mutate(document: Any, data: st.DataObject) -> None:
    """Replace, remove or add one value somewhere in a document."""
    place = document
    while True:
        names = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not names:
            break
        name = data.draw(st.sampled_from(names))
        if isinstance(place[name], dict | list) and data.draw(st.booleans()):
            place = place[name]
            continue
        if data.draw(st.integers(0, 4)) == 0:
            del place[name]
        else:
            place[name] = data.draw(JSON)
        return
    if isinstance(place, dict):
        place[data.draw(st.text(max_size=5))] = data.draw(JSON)
    else:
        place.append(data.draw(JSON))


@pytest.fixture
def corpus(engine: Engine) -> tuple[list[bytes], set[str]]:
    files = [export_live_mission(), export_ended_mission(engine, with_artifacts=True)]
    digests = {OpenedExport.of(file).manifest.missions[0].digest for file in files}
    return files, digests


def check(data: bytes, digests: set[str] | None) -> None:
    """Check that the file is refused and leaves nothing, or is imported whole."""
    before = stored_state()
    try:
        result = import_bytes(data)
    except errors.FleetError:
        assert stored_state() == before
        return
    (entry,) = storage.read_manifest(result.checkpoint.ref).missions
    assert Sortie.objects.filter(mission=result.mission).count() == len(OpenedExport.of(data).state)
    if digests is not None:
        assert entry.digest in digests

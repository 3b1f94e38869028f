"""Stored bytes that do not match the digest of an artifact are never served."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.urls import reverse

from fleet import errors
from missions.artifacts import collection
from missions.models import Artifact, Sortie
from tests.support import artifacts, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def content() -> bytes:
    """Unique to this test, because equal content is stored once."""
    return b"a report " + uuid4().hex.encode()


@pytest.fixture
def artifact(content: bytes) -> Artifact:
    web.ended_mission()
    return artifacts.add(Sortie.objects.get(key="good"), path="report.txt", content=content)


def path_of(artifact: Artifact) -> Path:
    return Path(settings.FLEET_HOME.artifacts) / artifact.digest[:2] / artifact.digest


def assert_not_served(artifact: Artifact) -> None:
    with pytest.raises(errors.NotFound):
        collection.open_stored(artifact)
    assert web.superuser().get(reverse("artifact", args=[artifact.ref])).status_code == 404


def test_a_link_in_place_of_the_file_is_not_followed(artifact: Artifact, tmp_path: Path) -> None:
    secret = tmp_path / "credentials.json"
    secret.write_text("the password")
    path_of(artifact).unlink()
    path_of(artifact).symlink_to(secret)
    assert_not_served(artifact)


def test_a_link_in_place_of_the_folder_is_not_followed(artifact: Artifact, content: bytes, tmp_path: Path) -> None:
    (tmp_path / artifact.digest).write_bytes(content)
    folder = path_of(artifact).parent
    aside = folder.rename(folder.with_name(f"{folder.name}.aside"))
    folder.symlink_to(tmp_path)
    try:
        assert_not_served(artifact)
    finally:
        folder.unlink()
        aside.rename(folder)


@pytest.mark.parametrize("keep_times", [False, True])
def test_changed_bytes_are_detected_even_after_a_verification(
    artifact: Artifact, content: bytes, keep_times: bool
) -> None:
    path = path_of(artifact)
    time.sleep(collection.SETTLED_NS / 1e9 + 0.1)  # a file that has just been written is not remembered as verified
    collection.open_stored(artifact).close()
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(content.upper())
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert_not_served(artifact)
    path.write_bytes(content)
    with collection.open_stored(artifact) as file:
        assert file.read() == content

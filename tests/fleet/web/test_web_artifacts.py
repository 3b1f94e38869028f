"""Artifacts in the admin are downloaded only by staff with permission, and never rendered on the site's origin."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse

from fleet import ids
from missions.artifacts import collection
from missions.models import Artifact, Sortie
from tests.support import artifacts, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

PAGE = b"<script>alert(1)</script>" + bytes(600_000)  # more than one chunk


@pytest.fixture
def artifact() -> Artifact:
    web.ended_mission()
    return artifacts.add(Sortie.objects.get(key="good"), path="out/r\u00e9port.html", content=PAGE)


def test_an_artifact_is_sent_as_an_attachment_that_no_browser_runs(artifact: Artifact) -> None:
    async def download() -> tuple[dict[str, str], bytes]:
        client = AsyncClient()
        await client.aforce_login(await User.objects.acreate_superuser("boss", password=web.PASSWORD))
        response: Any = await client.get(reverse("artifact", args=[artifact.ref]))  # the stubs know no streams here
        return dict(response.items()), b"".join([piece async for piece in response.streaming_content])

    headers, content = async_to_sync(download)()
    assert content == PAGE
    assert headers["Content-Disposition"] == "attachment; filename*=utf-8''r%C3%A9port.html"
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Length"] == str(len(PAGE))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox")


def test_users_who_are_not_staff_are_redirected_to_sign_in(artifact: Artifact, client: Client) -> None:
    url = reverse("artifact", args=[artifact.ref])
    for stranger in (client, web.ordinary_user()):
        response = stranger.get(url)
        assert (response.status_code, response["Location"].partition("?")[0]) == (302, reverse("admin:login"))


def test_staff_need_the_permission_to_see_artifacts(artifact: Artifact) -> None:
    assert web.staff("view_mission").get(reverse("artifact", args=[artifact.ref])).status_code == 403


def test_staff_with_the_permission_can_download(artifact: Artifact) -> None:
    response = web.staff("view_artifact").head(reverse("artifact", args=[artifact.ref]))
    assert (response.status_code, response["Content-Length"]) == (200, str(len(PAGE)))


def test_a_missing_artifact_is_not_found(artifact: Artifact) -> None:
    boss = web.superuser()
    collection.storage().delete(f"{artifact.digest[:2]}/{artifact.digest}")
    for ref in (artifact.ref, ids.encode(ids.ARTIFACT, ids.new()), "art_nonsense", artifact.sortie.ref):
        assert boss.get(reverse("artifact", args=[ref])).status_code == 404

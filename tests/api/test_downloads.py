"""Files and logs keep their media type whatever `Accept` requests; refusals are problems."""

from __future__ import annotations

import pytest

from fleet.access.models import Role
from missions.models import Sortie
from tests.support import api, artifacts, web

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
ACCEPTED = ["text/plain", "text/*", "application/octet-stream", "image/png", "application/json", "*/*"]


def test_downloads_ignore_accept_and_refuse_with_a_problem() -> None:
    boss = api.person("boss", Role.ADMIN)
    web.ended_mission()
    sortie = Sortie.objects.get(key="good")
    artifact = artifacts.add(sortie, path="report.txt", content=b"all is well")
    for path, media_type, missing_path in (
        (f"sorties/{sortie.ref}/logs.txt", "text/plain; charset=utf-8", "sorties/srt_x/logs.txt"),
        (f"artifacts/{artifact.ref}/content", "application/octet-stream", "artifacts/art_x/content"),
    ):
        for accept in ACCEPTED:
            download = boss.get(path, Accept=accept)
            assert (download.status_code, download["Content-Type"]) == (200, media_type), accept
            response = boss.get(missing_path, Accept=accept)
            assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json"), accept
    assert boss.get("missions", Accept="text/plain").status_code == 406

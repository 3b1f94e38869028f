"""Reservations over HTTP: attempts request them with their token, users list and release them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.postgres.functions import TransactionNow  # the start of the test, which is one transaction

from fleet.access.models import Role
from fleet.audit.models import Entry
from missions.control import admission
from missions.models import Mission
from tests.support import api, fleet, repository

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> api.Client:
    return api.person("ann", Role.USER)


@pytest.fixture
def leases(ann: api.Client, tmp_path: Path) -> tuple[Mission, list[dict[str, Any]]]:
    """A mission of `ann`, and the leases of its two running sorties."""
    project = repository.create(tmp_path / "project", {"README.md": "A project\n"})
    agent = api.person("amy", Role.AGENT)
    fleet.open_to_external_agents()
    ref = agent.post("agents", {"type": "backend", "concurrency": 2}).json()["id"]
    mission = fleet.launch({"one": {}, "two": {"touches": ["docs/**"]}}, workspace={"repository": str(project.path)})
    mission.created_by = ann.user
    mission.save()
    admission.admit()
    new_leases = agent.post("sorties/claim", {"agent": ref, "count": 2}).json()["leases"]
    return mission, sorted(new_leases, key=lambda lease: lease["key"])


def request(lease: dict[str, Any], *patterns: str, **body: Any) -> Any:
    return api.Client(lease["token"]).post(f"sorties/{lease['sortie']}/reservations", {"patterns": patterns, **body})


def test_an_attempt_reserves_files_and_is_refused_with_the_name_of_the_holder(
    leases: tuple[Mission, list[dict[str, Any]]],
) -> None:
    _, (first, second) = leases
    reservation = request(first, "src/**", "lib")
    assert reservation.status_code == 201
    assert [(row["pattern"], row["state"], row["attempt"]) for row in reservation.json()["items"]] == [
        ("src/**", "in force", 1),
        ("lib", "in force", 1),
    ]
    response = request(second, "src/x.py")
    assert response.status_code == 409
    assert "one has reserved src/**" in response.json()["detail"]
    assert request(first, "docs/a.md").json()["detail"].startswith("docs/a.md is not free: two has reserved docs/**.")
    path = f"sorties/{first['sortie']}/reservations/release"
    assert api.Client(first["token"]).post(path, {}).json() == {"released": 2}
    assert request(second, "src/x.py").status_code == 201


@pytest.mark.parametrize(
    "body", [{"patterns": []}, {"patterns": ["../x"]}, {"patterns": ["x"], "ttl_s": 4_000}, {"patterns": ["x" * 201]}]
)
def test_bad_requests_say_what_is_wrong(leases: tuple[Mission, list[dict[str, Any]]], body: dict[str, Any]) -> None:
    _, (first, _) = leases
    response = api.Client(first["token"]).post(f"sorties/{first['sortie']}/reservations", body)
    assert response.status_code == 422, response.json()
    assert response.json()["detail"]


def test_only_the_launcher_and_admins_release_and_that_is_audited(
    ann: api.Client, leases: tuple[Mission, list[dict[str, Any]]]
) -> None:
    mission, (first, _) = leases
    reservation = request(first, "src/**").json()["items"][0]
    stranger = api.person("bob", Role.USER)
    assert stranger.post(f"reservations/{reservation['id']}/release", {}).status_code == 404
    assert stranger.get(f"missions/{mission.ref}/reservations").status_code == 404
    items = ann.get(f"missions/{mission.ref}/reservations").json()["results"]
    assert sorted((row["key"], row["pattern"], row["state"]) for row in items) == [
        ("one", "src/**", "in force"),
        ("two", "docs/**", "in force"),
    ]
    response = ann.post(f"reservations/{reservation['id']}/release", {})
    assert (response.status_code, response.json()["state"]) == (200, "released")
    assert ann.post(f"reservations/{reservation['id']}/release", {}).status_code == 409
    entry = Entry.objects.get(at__gte=TransactionNow(), kind="reservation.release")
    assert entry.before is not None
    assert (entry.subject, entry.before["pattern"]) == (reservation["id"], "src/**")

"""Clients of the admin in the test's own process, and a mission for its pages to display."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from missions.models import Mission
from tests.support import fleet

PASSWORD = "long enough for this"


def superuser() -> Client:
    """A client signed in as a superuser."""
    return _signed_in(User.objects.create_superuser("boss", password=PASSWORD))


def staff(*permissions: str, name: str = "clerk") -> Client:
    """A client signed in as a staff member with exactly these permissions, such as `view_mission`."""
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return _signed_in(user)


def ordinary_user() -> Client:
    """A client signed in as a user who is not staff."""
    return _signed_in(User.objects.create_user("guest", password=PASSWORD))


def _signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def run_action(client: Client, name: str, *rows: Any) -> str:
    """Run a confirmed action of the admin on rows of one model. Returns the page that follows."""
    data = {"action": name, "confirmed": "yes", "_selected_action": [str(row.id) for row in rows]}
    page = reverse(f"admin:{rows[0]._meta.app_label}_{rows[0]._meta.model_name}_changelist")
    return client.post(page, data, follow=True).content.decode()


def ended_mission() -> Mission:
    """A mission with one sortie that succeeded, one that failed, and one that was skipped."""
    mission = fleet.launch({"good": {}, "bad": {"with": {"fail": "it broke"}}, "late": {"needs": ["bad"]}})
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    mission.refresh_from_db()
    return mission


def scrape(client: Client) -> dict[str, float]:
    """The values of /metrics, by series with labels."""
    bearer = {"Authorization": f"Bearer {settings.FLEET_CREDENTIALS.metrics_token}"}
    response = client.get("/metrics", headers=bearer)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    lines = [line for line in response.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

"""Clients of the admin in the test's own process, and missions and artifacts for its pages to display."""

from __future__ import annotations

import hashlib

from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.test import Client

from missions.artifacts import collection
from missions.models import Artifact, Mission, Sortie
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


def ended_mission() -> Mission:
    """A mission with one sortie that succeeded, one that failed, and one that was skipped."""
    mission = fleet.launch({"good": {}, "bad": {"with": {"fail": "it broke"}}, "late": {"needs": ["bad"]}})
    engine = fleet.engine()
    fleet.run_to_end(engine, mission)
    engine.stop(within_s=5)
    mission.refresh_from_db()
    return mission


def artifact(sortie: Sortie, *, path: str, content: bytes) -> Artifact:
    """A stored artifact, as an attempt produces it."""
    digest = hashlib.sha256(content).hexdigest()
    if not collection.storage().exists(f"{digest[:2]}/{digest}"):
        collection.storage().save(f"{digest[:2]}/{digest}", ContentFile(content))
    return Artifact.objects.create(
        sortie=sortie, attempt=sortie.attempt, path=path, digest=digest, size=len(content), media_type="text/html"
    )

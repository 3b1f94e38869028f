"""Signing in and out: refresh tokens work once, sessions end immediately, and roles are read at each request."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from fleet.access import operations, signing, tokens
from fleet.access.models import Role, Session
from tests.support import api
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


@pytest.fixture
def ann() -> User:
    return operations.create_user(name="ann", role=Role.USER, password=api.PASSWORD)


def sign_in(name: str = "ann", password: str = api.PASSWORD) -> Any:
    return api.anonymous().post("auth/token", {"username": name, "password": password})


def me(access: str) -> int:
    return int(api.Client(access).get("me").status_code)


def test_a_correct_password_returns_a_pair_of_tokens(ann: User) -> None:
    pair = sign_in().json()
    assert set(pair) == {"access", "refresh", "expires_in"}
    body = api.Client(pair["access"]).get("me").json()
    assert (body["name"], body["role"], body["can_execute"]) == ("user:ann", "user", False)
    ann.refresh_from_db()
    assert ann.last_login is not None


@pytest.mark.parametrize("name, password", [("ann", "a guess"), ("nobody", api.PASSWORD), ("ann", "")])
def test_a_wrong_password_and_an_unknown_user_get_the_same_response(ann: User, name: str, password: str) -> None:
    response = sign_in(name, password)
    assert response.status_code == (422 if not password else 401)
    assert "access" not in response.json()


def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(ann: User) -> None:
    first = sign_in().json()
    second = api.anonymous().post("auth/refresh", {"refresh": first["refresh"]}).json()
    assert second["refresh"] != first["refresh"]
    assert me(second["access"]) == 200
    replay = api.anonymous().post("auth/refresh", {"refresh": first["refresh"]})
    assert (replay.status_code, replay.json()["code"]) == (401, "not_authenticated")
    assert me(second["access"]) == 401
    assert api.anonymous().post("auth/refresh", {"refresh": second["refresh"]}).status_code == 401


def test_signing_out_ends_only_this_session(ann: User) -> None:
    current, other = sign_in().json(), sign_in().json()
    assert api.Client(current["access"]).post("auth/logout").status_code == 204
    assert (me(current["access"]), me(other["access"])) == (401, 200)
    assert api.anonymous().post("auth/refresh", {"refresh": current["refresh"]}).status_code == 401
    assert api.Client(other["access"]).post("auth/logout", {"everywhere": True}).status_code == 204
    assert me(other["access"]) == 401


def test_a_user_cannot_end_another_users_session(ann: User) -> None:
    theirs = sign_in().json()
    eve = api.person("eve")
    eve.post("auth/logout", {"refresh": theirs["refresh"]})
    assert me(theirs["access"]) == 200


def test_the_role_is_read_from_the_database_at_each_request(ann: User) -> None:
    client = api.Client(sign_in().json()["access"])
    assert client.get("nodes").status_code == 403
    api.person("boss", Role.ADMIN)  # the role of the last admin cannot be revoked
    operations.set_role(user=ann, role=Role.ADMIN)
    assert client.get("nodes").status_code == 200
    operations.set_role(user=ann, role=Role.USER)
    assert client.get("nodes").status_code == 403
    operations.set_active(user=ann, active=False)
    assert client.get("me").status_code == 401
    assert sign_in().status_code == 401


def forgeries(access: str) -> dict[str, str]:
    """Forgeries of a valid token, by what was changed."""
    claims = jwt.decode(access, options={"verify_signature": False})
    head, body, signature = access.split(".")

    def sign(key: str = signing._key(), **changes: Any) -> str:
        return jwt.encode({**claims, **changes}, key, algorithm="HS256")

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return {
        "no algorithm": f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "another key": sign("x" * 64),
        "another audience": sign(aud="another"),
        "another issuer": sign(iss="another"),
        "no audience": jwt.encode({k: v for k, v in claims.items() if k != "aud"}, signing._key(), algorithm="HS256"),
        "expired": sign(exp=claims["iat"] - 1),
        "another kind": sign(token_type="refresh"),
        "another user": f"{head}.{part({**claims, 'user_id': '1'})}.{signature}",
        "another user, signed": sign(user_id="999999"),
        "a role": f"{head}.{part({**claims, 'role': 'admin'})}.{signature}",
        "no session": sign(sid="ses_01hzzzzzzzzzzzzzzzzzzzzzzz"),
        "not the id of a session": sign(sid="'; DROP TABLE auth_user; --"),
        "cut": access[:-4],
        "a NUL": "eyJ\x00",
        "nothing": "",
    }


def test_forged_tokens_are_refused(ann: User) -> None:
    access = sign_in().json()["access"]
    assert me(access) == 200
    for name, token in forgeries(access).items():
        assert me(token) == 401, name
    assert User.objects.filter(username="ann").exists()


def test_refresh_tokens_give_no_access_and_access_tokens_cannot_refresh(ann: User) -> None:
    pair = sign_in().json()
    assert me(pair["refresh"]) == 401
    assert api.anonymous().post("auth/refresh", {"refresh": pair["access"]}).status_code == 401


def test_a_session_expires(ann: User) -> None:
    old = tokens.RefreshToken()
    old.set_exp(lifetime=-timedelta(seconds=1))
    assert api.anonymous().post("auth/refresh", {"refresh": str(old)}).status_code == 401
    assert Session.objects.count() == 0


def test_cleanup_deletes_only_long_expired_sessions(ann: User) -> None:
    current, expired = sign_in().json(), sign_in().json()
    api.Client(expired["access"]).post("auth/logout")
    Session.objects.filter(ended_at__isnull=False).update(ended_at=timezone.now() - timedelta(days=8))
    assert manage("fleet_cleanup", "--json").json["sessions"] == 1
    assert manage("fleet_cleanup", "--yes", "--json").json["sessions"] == 1
    assert me(current["access"]) == 200


def test_the_signing_key_is_not_among_the_credentials(ann: User, settings: Any) -> None:
    sign_in()
    path = settings.FLEET_HOME.private / "jwt.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() not in (settings.FLEET_HOME.private / "credentials.json").read_text()

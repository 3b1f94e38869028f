"""Clients of the API: users with access tokens, machines with keys, external agents with lease tokens."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client as DjangoClient
from drf_spectacular.generators import SchemaGenerator

from fleet.access import operations, tokens
from fleet.access.models import Role

PASSWORD = "long enough for this"
V1 = "/api/v1"


@functools.cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


class Client:
    """Sends JSON with a bearer token, and returns Django's response."""

    def __init__(self, bearer: str = "", user: User | None = None) -> None:
        self.bearer, self._user = bearer, user
        self._client = DjangoClient(raise_request_exception=False)

    @property
    def user(self) -> User:
        assert self._user is not None
        return self._user

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        http_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.bearer:
            http_headers["Authorization"] = f"Bearer {self.bearer}"
        url = path if path.startswith(("/", "http")) else f"{V1}/{path}"
        return self._client.generic(method.upper(), url, data, content_type="application/json", headers=http_headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.send("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.send("DELETE", path, **headers)


def person(name: str, role: Role = Role.USER, *, can_execute: bool = False, teams: Collection[str] = ()) -> Client:
    """A client for a new user who has signed in. Creates the teams that do not exist."""
    for team in teams:
        Group.objects.get_or_create(name=team)
    user = operations.create_user(name=name, role=role, password=PASSWORD, teams=teams)
    if can_execute:
        operations.set_execute(user=user, allowed=True)
    return Client(tokens.begin(user=user).access, user)


def machine(user: User, *scopes: str) -> Client:
    """A client with a new machine key of the user."""
    return Client(operations.create_key(user=user, name="a machine", scopes=scopes).text, user)


def anonymous() -> Client:
    """A client without credentials."""
    return Client()


PLAN = {"mission": "Launched over HTTP", "sorties": {"one": {"agent": "backend", "run": "true"}}}

"""The addresses of Postgres and Redis: from the environment (provider `external`), or the fleet's own (`embedded`).

DATABASE_URL and REDIS_URL must both be set, or neither: a forgotten URL must not combine the database of one fleet with
the broker of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from fleet.config import ports
from fleet.config.credentials import Credentials
from fleet.config.env import Environment
from fleet.config.home import Home

ADMINISTRATOR = "postgres"  # the embedded cluster's superuser
OWNER = "fleet_owner"  # owns the embedded database; this role cannot log in
SCRAM = {"require_auth": "scram-sha-256"}  # never send the password to another program that listens on the port


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    host: str
    port: int
    user: str
    password: str
    name: str
    options: dict[str, str]

    def __repr__(self) -> str:
        return f"Postgres({self.user}@{self.host}:{self.port}/{self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    provider: Literal["external", "embedded"]
    postgres: Postgres  # with the application's role, which every process of the fleet uses
    owner: Postgres | None  # with the role that owns the database and migrates; None if the application's role owns it
    redis_url: str

    def __repr__(self) -> str:
        return f"Endpoints({self.provider}, {self.postgres!r})"


def resolve(environment: Environment, home: Home, credentials: Credentials) -> Endpoints:
    """Return the endpoints that the environment selects; raises ImproperlyConfigured if the URLs are incomplete."""
    database, redis = environment.text("DATABASE_URL"), environment.text("REDIS_URL")
    if database and redis:
        owner = environment.text("DATABASE_OWNER_URL")
        return Endpoints(
            provider="external",
            postgres=_postgres("DATABASE_URL", database),
            owner=_postgres("DATABASE_OWNER_URL", owner) if owner else None,
            redis_url=_redis(redis),
        )
    if database or redis:
        present, missing = ("DATABASE_URL", "REDIS_URL") if database else ("REDIS_URL", "DATABASE_URL")
        raise ImproperlyConfigured(
            f"{present} is set and {missing} is not. "
            "Set both to use your own services, or neither to use the embedded ones."
        )
    recorded = ports.recorded(home)  # empty before the first start
    index = environment.integer("FLEET_REDIS_INDEX", 0)
    postgres = Postgres(
        host="127.0.0.1",
        port=recorded.get("postgres", 0),
        user="fleet",
        password=credentials.postgres_password,
        name="fleet",
        options=SCRAM,
    )
    return Endpoints(
        provider="embedded",
        postgres=postgres,
        owner=replace(
            postgres,
            user=ADMINISTRATOR,
            password=credentials.postgres_admin_password,
            options={**SCRAM, "options": f"-c role={OWNER}"},
        ),
        redis_url=f"redis://:{quote(credentials.redis_password)}@127.0.0.1:{recorded.get('valkey', 0)}/{index}",
    )


def site(text: str) -> str:
    """Parse the address of the fleet's site: scheme, host and port. Raises ValueError, with the reason, otherwise."""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("expected a URL such as https://fleet.example.org")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the site is at the root of its host, so the URL must end after the host and port")
    return f"{parts.scheme}://{parts.netloc}"


def _postgres(setting: str, url: str) -> Postgres:
    parts, port = _parts(setting, url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"{setting} must begin with postgresql://.")
    if not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{setting} names no database. Use postgresql://user:password@host:5432/NAME.")
    if not parts.username:
        raise ImproperlyConfigured(f"{setting} names no user. Use postgresql://USER:password@host:5432/name.")
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return Postgres(
        host=unquote(parts.hostname or "127.0.0.1"),
        port=port or 5432,
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        name=unquote(parts.path.strip("/")),
        options={name: unquote(value) for name, value in query.items()},
    )


def _redis(url: str) -> str:
    if _parts("REDIS_URL", url)[0].scheme not in {"redis", "rediss", "unix"}:
        raise ImproperlyConfigured("REDIS_URL must begin with redis:// or rediss://.")
    return url


def _parts(name: str, url: str) -> tuple[SplitResult, int | None]:
    """Split a URL and return it with its port. The error does not repeat the URL, because it may contain a password."""
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} cannot be read as a URL. Check its host and port, and write /, @, : and # in a password as "
            "%2F, %40, %3A and %23."
        ) from None

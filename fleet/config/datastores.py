"""Where Postgres and Redis are: named by the environment (provider `external`), or the fleet's own (`embedded`).

Both URLs or neither: a fleet that took its database from the environment and its broker from somewhere else
would be two fleets in one, so half a configuration is refused.
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
OWNER = "fleet_owner"  # of the embedded database; nobody can sign in as this role
SCRAM = {"require_auth": "scram-sha-256"}  # whoever listens on the port instead of Postgres is not told the password


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
    postgres: Postgres  # as the application, which every process of the fleet is
    owner: Postgres | None  # as the role that owns the database and migrates; None where that is the application's too
    redis_url: str

    def __repr__(self) -> str:
        return f"Endpoints({self.provider}, {self.postgres!r})"


def resolve(environment: Environment, home: Home, credentials: Credentials) -> Endpoints:
    """Decide by the environment; ImproperlyConfigured where it says only half, or leaves a password out."""
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
        there, missing = ("DATABASE_URL", "REDIS_URL") if database else ("REDIS_URL", "DATABASE_URL")
        raise ImproperlyConfigured(
            f"{there} is set and {missing} is not. "
            "Set both to use your own services, or neither to use the embedded ones."
        )
    chosen = ports.recorded(home)  # empty before the first start
    index = environment.integer("FLEET_REDIS_INDEX", 0)
    postgres = Postgres(
        host="127.0.0.1",
        port=chosen.get("postgres", 0),
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
        redis_url=f"redis://:{quote(credentials.redis_password)}@127.0.0.1:{chosen.get('valkey', 0)}/{index}",
    )


def site(text: str) -> str:
    """The address of the fleet's own site: scheme, host and port. ValueError with a sentence for anything else."""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("it does not look like https://fleet.example.org")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the site is at the root of its host; leave out what stands behind that")
    return f"{parts.scheme}://{parts.netloc}"


def _postgres(setting: str, url: str) -> Postgres:
    parts, port = _parts(setting, url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"{setting} must begin with postgresql://.")
    if not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{setting} names no database: postgresql://user:password@host:5432/NAME.")
    if not parts.username:
        raise ImproperlyConfigured(f"{setting} names no user: postgresql://USER:password@host:5432/name.")
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
    """The URL's parts and its port; what cannot be read is refused without being repeated: it may hold a password."""
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        raise ImproperlyConfigured(
            f"{name} cannot be read as a URL: see its host and port, and write /, @, : and # in a password as "
            "%2F, %40, %3A and %23."
        ) from None

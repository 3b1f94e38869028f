"""The addresses of Postgres and Redis: from the environment (provider `external`), or the fleet's own.

The fleet's own are child processes (`embedded`) or containers (`podman`, `docker`).

DATABASE_URL and REDIS_URL must be set together, so that a forgotten URL does not combine the database of one fleet with
the broker of another. A URL without a password gets it from a separate variable, which needs no escaping.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from fleet.config import ports, programs, redis_address, unix_sockets
from fleet.config.credentials import Credentials
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.config.redis_address import RedisAddress

ProviderName = Literal["external", "embedded", "podman", "docker"]
OWN_PROVIDERS: tuple[ProviderName, ...] = ("embedded", *programs.ENGINES)
# The variables with the addresses and passwords of services, which no workload may see.
_SECRETS = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_DIRECT_URL",
    "REDIS_URL",
    "POSTGRES_PASSWORD",
    "POSTGRES_OWNER_PASSWORD",
    "REDIS_PASSWORD",
    "FLOWER_PASSWORD",
)
SECRETS = frozenset(name + suffix for name in _SECRETS for suffix in ("", "_FILE"))
ADMINISTRATOR = "postgres"  # the superuser of the fleet's own cluster
POSTGRES_FOLDER = "postgres"  # in the private folder: the cluster, and its socket with FLEET_EMBEDDED_SOCKETS
VALKEY_FOLDER, VALKEY_SOCKET = "valkey", "valkey.sock"
OWNER = "fleet_owner"  # owns the database of that cluster; this role cannot log in
# Settings that are read only without the URLs.
ONLY_WITHOUT_URLS = frozenset({"FLEET_SERVICES", "FLEET_EMBEDDED_SOCKETS", "FLEET_REDIS_INDEX"})
SCRAM = {"require_auth": "scram-sha-256"}  # never send the password to another program that listens on the port


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    host: str
    port: int
    user: str
    password: str
    name: str
    options: dict[str, str]
    pooled: bool = False  # reached through PgBouncer in transaction mode, so a session's state does not last

    def __repr__(self) -> str:
        return f"Postgres({self.user}@{self.host}:{self.port}/{self.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    provider: ProviderName
    postgres: Postgres  # with the application's role, which every process of the fleet uses
    owner: Postgres | None  # with the role that owns the database and migrates; None if the application's role owns it
    redis_url: str
    direct: Postgres | None = None  # like `postgres`, but past the pooler; None if there is no pooler

    def __repr__(self) -> str:
        return f"Endpoints({self.provider}, {self.postgres!r})"

    @property
    def redis(self) -> RedisAddress:
        return redis_address.parse(self.redis_url)


def resolve(environment: Environment, home: Home, credentials: Credentials) -> Endpoints:
    """Return the endpoints that the environment selects; raises ImproperlyConfigured if the URLs are incomplete."""
    database, redis = environment.secret("DATABASE_URL"), environment.secret("REDIS_URL")
    if database and redis:
        owner, owner_password = environment.secret("DATABASE_OWNER_URL"), environment.secret("POSTGRES_OWNER_PASSWORD")
        direct, password = environment.secret("DATABASE_DIRECT_URL"), environment.secret("POSTGRES_PASSWORD")
        return Endpoints(
            provider="external",
            postgres=replace(_postgres("DATABASE_URL", database, password=password), pooled=bool(direct)),
            owner=_postgres("DATABASE_OWNER_URL", owner, password=owner_password) if owner else None,
            redis_url=_redis(redis, password=environment.secret("REDIS_PASSWORD")),
            direct=_postgres("DATABASE_DIRECT_URL", direct, password=password) if direct else None,
        )
    if database or redis:
        present, missing = ("DATABASE_URL", "REDIS_URL") if database else ("REDIS_URL", "DATABASE_URL")
        raise ImproperlyConfigured(
            f"{present} is set and {missing} is not. "
            "Set both to use your own services, or neither to use the embedded ones."
        )
    recorded = ports.recorded(home)  # empty before the first start
    index = environment.integer("FLEET_REDIS_INDEX", 0)
    provider = _own_provider(environment, home)
    password = quote(credentials.redis_password)
    host, redis_url = "127.0.0.1", f"redis://:{password}@127.0.0.1:{recorded.get('valkey', 0)}/{index}"
    if provider == "embedded" and _on_sockets(environment, home):
        host = str(home.private / POSTGRES_FOLDER)
        redis_url = f"unix://:{password}@{quote(str(home.private / VALKEY_FOLDER / VALKEY_SOCKET))}?db={index}"
    postgres = Postgres(
        host=host,
        port=recorded.get("postgres", 0),
        user="fleet",
        password=credentials.postgres_password,
        name="fleet",
        options=SCRAM,
    )
    return Endpoints(
        provider=provider,
        postgres=postgres,
        owner=replace(
            postgres,
            user=ADMINISTRATOR,
            password=credentials.postgres_admin_password,
            options={**SCRAM, "options": f"-c role={OWNER}"},
        ),
        redis_url=redis_url,
    )


def _on_sockets(environment: Environment, home: Home) -> bool:
    """Whether the embedded servers listen on Unix sockets. By default, if the paths of these are short enough."""
    longest = home.private / POSTGRES_FOLDER / ".s.PGSQL.65535"
    try:
        unix_sockets.parse_path(str(longest))
    except ValueError as error:
        if environment.boolean("FLEET_EMBEDDED_SOCKETS", False):
            raise ImproperlyConfigured(
                f"FLEET_EMBEDDED_SOCKETS: {error}, and {longest} has more. "
                "Set FLEET_PRIVATE to a folder with a shorter path."
            ) from None
        return False
    return environment.boolean("FLEET_EMBEDDED_SOCKETS", True)


def engine_record(home: Home) -> Path:
    """The file that names the container engine which has the data of this home's Postgres; missing if none has."""
    return home.private / "container-engine"


def _own_provider(environment: Environment, home: Home) -> ProviderName:
    """Return the provider that FLEET_SERVICES names.

    `auto`: the one that has the data of this home, or else the embedded one if its programs are installed, or else the
    container engine of this host.
    """
    choice = environment.choice("FLEET_SERVICES", "auto", ("auto", *OWN_PROVIDERS))
    for name in OWN_PROVIDERS:
        if name == choice:
            return name
    if (home.private / POSTGRES_FOLDER).exists():
        return "embedded"
    with suppress(FileNotFoundError):
        recorded = engine_record(home).read_text().strip()
        for engine in programs.ENGINES:
            if engine == recorded:
                return engine
    if programs.embedded_available():
        return "embedded"
    return programs.engine() or "embedded"


def parse_site_url(text: str) -> str:
    """Parse the address of the fleet's site: scheme, host and port. Raises ValueError, with the reason, otherwise."""
    if not text:
        return ""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("expected a URL such as https://fleet.example.org")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("the site is at the root of its host, so the URL must end after the host and port")
    return f"{parts.scheme}://{parts.netloc}"


def _postgres(setting: str, url: str, *, password: str) -> Postgres:
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
        password=unquote(parts.password or "") or password,
        name=unquote(parts.path.strip("/")),
        options={name: unquote(value) for name, value in query.items()},
    )


def _redis(url: str, *, password: str) -> str:
    try:
        address = redis_address.parse(url)
    except redis_address.InvalidAddress as error:
        raise ImproperlyConfigured(f"REDIS_URL cannot be read as a URL: {error}.") from None
    return redis_address.with_password(url, password) if password and not address.password else url


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

"""The address of Redis: of one server, or of Sentinels that know which server is the master at the moment.

    redis://:PASSWORD@HOST:6379/0
    rediss://:PASSWORD@HOST:6379/0?ssl_ca_certs=/etc/fleet/ca.pem                      with TLS
    redis+sentinel://:PASSWORD@HOST1:26379,HOST2:26379,HOST3:26379/MASTER/0            Sentinel; rediss+sentinel: with TLS
    unix://:PASSWORD@/run/redis.sock?db=0

USER:PASSWORD@ is for the servers; `sentinel_username` and `sentinel_password` are for Sentinels that require them. With
TLS, the server's certificate and its host name are verified. The names of the options are those of redis-py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

PORT, SENTINEL_PORT = 6379, 26379
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_OPTIONS = (*FILES, "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


class InvalidAddress(ValueError):
    """Says what is wrong with an address without repeating it, because it may contain a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    servers: tuple[tuple[str, int], ...] = ()  # hosts and ports: one server, or the Sentinels
    path: str = ""  # of a Unix socket, instead of `servers`
    master: str = ""  # the master's name in the Sentinels; empty without Sentinel
    database: int = 0
    username: str = ""
    password: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""
    tls: Mapping[str, Any] | None = field(default=None, hash=False)  # redis-py's `ssl_…` arguments

    def __repr__(self) -> str:
        return f"RedisAddress({self.path or self.servers}, {self.master!r})"

    def __str__(self) -> str:
        servers = ", ".join(f"{_bracketed(host)}:{port}" for host, port in self.servers)
        return f"{self.master} of {servers}" if self.master else self.path or servers

    @property
    def secrets(self) -> tuple[str, str]:
        return self.password, self.sentinel_password

    @property
    def credentials(self) -> dict[str, str]:
        """The arguments with which redis-py signs in to a server."""
        return _without_empty({"username": self.username, "password": self.password})

    @property
    def sentinel_arguments(self) -> dict[str, Any]:
        """The arguments with which redis-py connects to a Sentinel, apart from its host and port."""
        tls = {} if self.tls is None else {"ssl": True, **self.tls}
        return {**tls, **_without_empty({"username": self.sentinel_username, "password": self.sentinel_password})}

    def broker_options(self, *, timeout_s: float) -> dict[str, Any]:
        """What kombu's transport needs besides the URL. `timeout_s` bounds each query of a Sentinel."""
        if not self.master:
            return {}
        timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        return {
            "master_name": self.master,
            "sentinels": list(self.servers),
            "sentinel_kwargs": {**self.sentinel_arguments, **timeouts},
        }

    @property
    def broker_urls(self) -> list[str]:
        """The address as kombu writes it. For Sentinel there are several URLs, one for each of them.

        TLS is not part of it: CELERY_BROKER_USE_SSL has those options.
        """
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        if self.path:
            return [f"redis+socket://{user}{quote(self.path)}?virtual_host={self.database}"]
        scheme = "sentinel" if self.master else "rediss" if self.tls is not None else "redis"
        return [f"{scheme}://{user}{_bracketed(host)}:{port}/{self.database}" for host, port in self.servers]


def parse(url: str) -> RedisAddress:
    """Read a URL of the forms above. Raises InvalidAddress, with the reason, for any other text."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise InvalidAddress("it must begin with redis:// or rediss://, or with redis+sentinel:// for Sentinel")
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    authority, slash, path = location.partition("/")
    user_info, _, hosts = authority.rpartition("@")
    username, _, password = user_info.partition(":")
    with_sentinel, with_tls = scheme.endswith("+sentinel"), scheme.startswith("rediss")
    option_names = (TLS_OPTIONS if with_tls else ()) + (SENTINEL_OPTIONS if with_sentinel else ()) + ("db",)
    if unknown := sorted(options.keys() - set(option_names)):
        raise InvalidAddress(f"{scheme}:// has no option {unknown[0]!r}; it has {', '.join(option_names)}")
    servers = tuple(_servers(hosts, port=SENTINEL_PORT if with_sentinel else PORT))
    words = [unquote(word) for word in path.split("/") if word]
    address = RedisAddress(
        username=unquote(username), password=unquote(password), tls=_tls(options) if with_tls else None
    )
    if scheme == "unix":
        return replace(address, path=f"{hosts}{slash}{unquote(path)}", database=_number(options.get("db", "0")))
    if not with_sentinel:
        if len(servers) > 1 or len(words) > 1:
            raise InvalidAddress("it must name one host and one database, as in redis://:password@host:6379/0")
        return replace(address, servers=servers, database=_number(options.get("db") or "".join(words) or "0"))
    if not 1 <= len(words) <= 2 or words[0].isdigit():
        raise InvalidAddress(
            "it must name the master as the Sentinels do, as in redis+sentinel://:password@host1,host2,host3/MASTER/0"
        )
    return replace(
        address,
        servers=servers,
        master=words[0],
        database=_number(options.get("db") or "".join(words[1:]) or "0"),
        sentinel_username=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
    )


def with_password(url: str, password: str) -> str:
    """Add a password to a URL that has none."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    return f"{scheme}://{user.rstrip(':') if at else ''}:{quote(password, safe='')}@{hosts}{slash}{path}"


def _servers(hosts: str, *, port: int) -> Iterator[tuple[str, int]]:
    """The hosts of `host1:port,[::1]:port,host3`."""
    for text in hosts.split(",") if hosts else ["127.0.0.1"]:
        host, bracket, after = text.partition("]")
        if bracket:
            host, after = host.removeprefix("["), after.removeprefix(":")
        else:
            host, _, after = text.partition(":")
        if not host or (after and not (after.isascii() and after.isdigit() and int(after) < 65_536)):
            raise InvalidAddress(
                "its host and port cannot be read. Write /, @, : and # in a password as %2F, %40, %3A and %23"
            )
        yield unquote(host), int(after or port)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    for name in FILES:
        if (file := options.get(name)) is not None and not os.access(file, os.R_OK):
            raise InvalidAddress(f"{name} names {file!r}, which this user cannot read")
    cert_reqs = options.get("ssl_cert_reqs", "required")
    if cert_reqs not in {"required", "none"}:
        raise InvalidAddress(f"ssl_cert_reqs={cert_reqs!r} is neither 'required' nor 'none'")
    check_hostname = options.get("ssl_check_hostname", "yes").lower()
    if check_hostname not in {"yes", "true", "no", "false"}:
        raise InvalidAddress(f"ssl_check_hostname={check_hostname!r} is neither 'yes' nor 'no'")
    return {
        **{name: options[name] for name in FILES if name in options},
        "ssl_cert_reqs": cert_reqs,
        "ssl_check_hostname": cert_reqs == "required" and check_hostname in {"yes", "true"},
    }


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidAddress("its database must be a number, such as the 0 in redis://:password@host:6379/0")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")


def _without_empty(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}

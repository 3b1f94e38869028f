"""REDIS_URL names a server or Sentinels, with or without TLS, and a faulty one is refused without its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.config import credentials, datastores, redis_address
from fleet.config.env import Environment
from fleet.config.home import Home
from fleet.config.redis_address import InvalidAddress

VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


def test_a_server_has_the_default_port_and_database() -> None:
    address = redis_address.parse("redis://:hush%40word@cache")
    assert (address.servers, address.database, address.password) == ((("cache", 6379),), 0, "hush@word")
    assert address.broker_urls == ["redis://:hush%40word@cache:6379/0"]
    assert address.tls is None


def test_an_ipv6_address_keeps_its_brackets() -> None:
    address = redis_address.parse("redis://[::1]:7000/3")
    assert (address.servers, address.database) == ((("::1", 7000),), 3)
    assert address.broker_urls == ["redis://[::1]:7000/3"]


def test_tls_verifies_the_certificate_and_the_host_name_by_default(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.touch()
    assert redis_address.parse("rediss://cache").tls == VERIFIED
    assert redis_address.parse(f"rediss://cache?ssl_ca_certs={file}").tls == {**VERIFIED, "ssl_ca_certs": str(file)}
    assert redis_address.parse("rediss://cache?ssl_check_hostname=no").tls == {**VERIFIED, "ssl_check_hostname": False}
    unverified = redis_address.parse("rediss://cache?ssl_cert_reqs=none").tls
    assert unverified == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}


def test_sentinels_are_listed_with_the_name_of_their_master() -> None:
    address = redis_address.parse("redis+sentinel://:hush@a,b:7,[::1]/fleet/2?sentinel_password=word")
    assert address.servers == (("a", 26379), ("b", 7), ("::1", 26379))
    assert (address.master, address.database, address.secrets) == ("fleet", 2, ("hush", "word"))
    assert address.broker_urls[1:] == ["sentinel://:hush@b:7/2", "sentinel://:hush@[::1]:26379/2"]
    assert address.broker_options(timeout_s=2) == {
        "master_name": "fleet",
        "sentinels": [("a", 26379), ("b", 7), ("::1", 26379)],
        "sentinel_kwargs": {"password": "word", "socket_timeout": 2, "socket_connect_timeout": 2},
    }


def test_sentinels_are_asked_with_tls_too() -> None:
    address = redis_address.parse("rediss+sentinel://a/fleet")
    assert address.tls == VERIFIED
    assert address.sentinel_arguments == {"ssl": True, **VERIFIED}


def test_a_socket_of_this_host_has_a_path_instead_of_a_host() -> None:
    address = redis_address.parse("unix://:hush@/run/redis.sock?db=2")
    assert (address.path, address.database, address.password) == ("/run/redis.sock", 2, "hush")


@pytest.mark.parametrize(
    "url, message",
    [
        ("amqp://:hush@cache", "must begin with redis://"),
        ("redis://:hush@cache:port", "its host and port cannot be read"),
        ("redis://someone:hush/tail@cache", "its host and port cannot be read"),
        ("redis://:hush@cache/word", "its database must be a number"),
        ("redis://:hush@a,b/0", "must name one host"),
        ("redis://:hush@cache?ssl_ca_certs=/ca.pem", "redis:// has no option 'ssl_ca_certs'"),
        ("rediss://:hush@cache?ssl_ca_certs=/nowhere.pem", "names '/nowhere.pem', which this user cannot read"),
        ("rediss://:hush@cache?ssl_cert_reqs=perhaps", "neither 'required' nor 'none'"),
        ("rediss://:hush@cache?ssl_check_hostname=perhaps", "neither 'yes' nor 'no'"),
        ("redis+sentinel://:hush@a,b/0", "must name the master"),
        ("redis+sentinel://:hush@a,b", "must name the master"),
    ],
)
def test_a_faulty_address_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(InvalidAddress, match=message) as excinfo:
        redis_address.parse(url)
    assert "hush" not in str(excinfo.value)
    assert "tail" not in str(excinfo.value)


def test_the_embedded_servers_port_is_0_before_its_first_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    endpoints = datastores.resolve(Environment({"FLEET_EMBEDDED_SOCKETS": "no"}), home, credentials.ensure(home))
    assert endpoints.redis.servers == (("127.0.0.1", 0),)

"""A client's address comes from the fleet's own proxies, never from the client itself."""

from __future__ import annotations

import ipaddress

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from fleet.config.env import Environment
from fleet.limits import addresses

PROXIES = addresses.parse_networks("10.0.0.0/8, 2001:db8:ff::/48 ::1")
texts = st.one_of(
    st.ip_addresses().map(str),
    st.text(max_size=30),
    st.sampled_from(["10.1.1.1", "unknown", "[::1]:80", "::ffff:10.0.0.1"]),
)


@pytest.mark.parametrize(
    "peer, forwarded, client",
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not one of the fleet's proxies, so the header is forged
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (
            "10.0.0.1",
            "1.2.3.4, 198.51.100.1",
            "198.51.100.1",
        ),  # the proxy only passed on what the header already contained
        ("10.0.0.1", "198.51.100.1, 10.0.0.7", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.9, 10.0.0.7", "10.0.0.9"),
        ("10.0.0.1", "198.51.100.1:51000", "198.51.100.1"),
        ("::1", "[2001:db8::5]:443", "2001:db8::5"),
        ("::1", "2001:0DB8:0:0::5", "2001:db8::5"),
        ("2001:db8:ff::2", "fe80::1%eth0", "fe80::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, <script>", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, unknown, 10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", ",,", "10.0.0.1"),
        ("", "198.51.100.1", "0.0.0.0"),
        ("nonsense", "198.51.100.1", "0.0.0.0"),
    ],
)
def test_the_address_is_the_last_one_that_is_no_trusted_proxy(peer: str, forwarded: str, client: str) -> None:
    with override_settings(FLEET_TRUSTED_PROXIES=PROXIES):
        assert addresses.resolve(peer=peer, forwarded=forwarded) == client


def test_a_unix_socket_is_trusted_only_if_the_settings_say_so() -> None:
    request = RequestFactory().get("/", headers={"X-Forwarded-For": "198.51.100.1"})
    del request.META["REMOTE_ADDR"]
    assert addresses.client(request) == "0.0.0.0"
    with override_settings(FLEET_TRUSTED_PROXIES=addresses.parse_networks("unix")):
        assert addresses.client(request) == "198.51.100.1"


@given(texts, st.lists(texts, max_size=5))
def test_a_client_cannot_choose_its_address_whatever_it_sends(peer: str, hops: list[str]) -> None:
    with override_settings(FLEET_TRUSTED_PROXIES=PROXIES):
        found = addresses.resolve(peer=peer, forwarded=", ".join(hops))
        assert str(ipaddress.ip_address(found)) == found
        if not addresses.is_proxy(peer):
            assert found == addresses.resolve(peer=peer, forwarded="")


def test_an_ipv6_network_shares_one_limit() -> None:
    assert addresses.bucket("2001:db8::5") == addresses.bucket("2001:db8::ffff:1") == "2001:db8::/64"
    assert addresses.bucket("2001:db8:0:1::5") != addresses.bucket("2001:db8::5")
    assert addresses.bucket("198.51.100.1") == "198.51.100.1"


def test_an_invalid_proxy_setting_is_refused() -> None:
    environment = Environment({"FLEET_TRUSTED_PROXIES": "10.0.0.0/8, proxy.example.org"})
    with pytest.raises(ImproperlyConfigured, match=r"FLEET_TRUSTED_PROXIES: 'proxy\.example\.org'"):
        environment.parsed("FLEET_TRUSTED_PROXIES", "", addresses.parse_networks)

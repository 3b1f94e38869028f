"""Browsers send cookies with the handshake of a WebSocket from any page, so only the site's own pages may open one."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from fleet.live import origins

HOST = b"fleet.example.org"


@pytest.mark.parametrize(("https_only", "accepted"), [(False, ["http", "https"]), (True, ["https"])])
def test_an_https_site_opens_no_socket_for_a_page_loaded_over_http(
    settings: Settings, https_only: bool, accepted: list[str]
) -> None:
    settings.FLEET_HTTPS = https_only
    schemes = ("http", "https", "ws", "file")
    pages = {scheme: {b"host": HOST, b"origin": f"{scheme}://".encode() + HOST} for scheme in schemes}
    assert [scheme for scheme, headers in pages.items() if origins.is_same_origin(headers)] == accepted

"""Starts, watches and stops the processes of a fleet, and the Postgres and Valkey that it runs on.

`composition` builds the supervisors from the settings, `providers` supplies Postgres and Redis, and `supervision` keeps
everything running. `statuses` and `logfiles` show what happened, `detached` and `foreground` run it for the commands.
"""

from __future__ import annotations

from django.conf import settings

from fleet.config import ports


def addresses() -> dict[str, str]:
    """Return the URLs of this fleet's pages: below FLEET_URL, or else on this host with the ports of the last start."""
    recorded = ports.recorded(settings.FLEET_HOME)
    web = settings.FLEET_URL or f"http://127.0.0.1:{recorded.get('web', settings.FLEET_WEB_PORT)}"
    return {
        "api": f"{web}/api/v1/",
        "admin": f"{web}/admin/",
        "flower": f"{web}/flower/",
        "metrics": f"{web}/metrics",
    }


def api_url() -> str:
    """Return the API's URL for programs on this host, without a trailing slash; empty if it is unknown.

    It is unknown if no web process of this home was ever started, or if the site accepts only its proxy (FLEET_HTTPS)
    and FLEET_URL does not give the proxy's address.
    """
    if not settings.FLEET_URL and (settings.FLEET_HTTPS or "web" not in ports.recorded(settings.FLEET_HOME)):
        return ""
    return addresses()["api"].rstrip("/")

"""What a fleet runs on and the processes that it is made of: who starts them, watches them and stops them."""

from __future__ import annotations

from django.conf import settings

from fleet.config import ports


def addresses() -> dict[str, str]:
    """The URLs of this fleet's pages: below FLEET_URL, or on this host, by the ports that were chosen at its last start."""
    chosen = ports.recorded(settings.FLEET_HOME)
    web = settings.FLEET_URL or f"http://127.0.0.1:{chosen.get('web', settings.FLEET_WEB_PORT)}"
    return {
        "api": f"{web}/api/v1/",
        "admin": f"{web}/admin/",
        "flower": f"{web}/flower/",
        "metrics": f"{web}/metrics",
    }


def api() -> str:
    """Where programs on this host reach the API, without a slash at its end; empty where that is not known: no web process
    of this home has been started, or it answers to its proxy alone (FLEET_HTTPS), whose address nobody has told."""
    if not settings.FLEET_URL and (settings.FLEET_HTTPS or "web" not in ports.recorded(settings.FLEET_HOME)):
        return ""
    return addresses()["api"].rstrip("/")

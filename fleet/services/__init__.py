"""What a fleet runs on and the processes that it is made of: who starts them, watches them and stops them."""

from __future__ import annotations

from django.conf import settings

from fleet.services import ports


def addresses() -> dict[str, str]:
    """The URLs of this fleet's pages, by the ports that were chosen at its last start."""
    chosen = ports.recorded(settings.FLEET_HOME)
    web = f"http://127.0.0.1:{chosen.get('web', settings.FLEET_WEB_PORT)}"
    return {
        "api": f"{web}/api/v1/",
        "admin": f"{web}/admin/",
        "flower": f"{web}/flower/",
        "metrics": f"{web}/metrics",
    }

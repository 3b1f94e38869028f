"""How a good lease token is told, for whoever asks who sends a request (fleet.access.leases)."""

from __future__ import annotations

from fleet.access import leases
from missions.operations import outside

leases.register(outside.fits)

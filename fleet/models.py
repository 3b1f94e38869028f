from fleet.events.models import Event

__all__ = ["Event"]

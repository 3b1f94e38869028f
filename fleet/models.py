from fleet.access.models import Account, Key, Session
from fleet.api.models import Answer
from fleet.events.models import Event

__all__ = ["Account", "Answer", "Event", "Key", "Session"]

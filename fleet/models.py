from fleet.access.models import Account, Key, Session
from fleet.api.models import IdempotentResponse
from fleet.audit.models import Entry, Seal
from fleet.events.models import Event
from fleet.live.models import Ticket
from fleet.web.models import Uptime

__all__ = ["Account", "Entry", "Event", "IdempotentResponse", "Key", "Seal", "Session", "Ticket", "Uptime"]

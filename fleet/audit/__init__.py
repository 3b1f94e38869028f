"""The audit trail: who did what to what, from where, kept so that nothing of it can go unseen (docs/audit-trail.md)."""

from fleet.audit.recording import record

__all__ = ["record"]

"""The audit trail: who did what, from where, sealed so that tampering is detected (docs/audit-trail.md).

Callers use `record`. `sealing` builds the chain, `verification` checks it, `anchor` copies its head to a file,
`protection` and `guarding` restrict and record writes by others.
"""

from fleet.audit.recording import record

__all__ = ["record"]

"""Structured logs, and the redaction of secrets in logs, in the audit trail and in the output of attempts.

`redactor` masks known values, `redaction` masks by name and by shape. Nothing here imports an app above `fleet`.
"""

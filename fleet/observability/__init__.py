"""Structured logs, and the redaction of secrets in everything that is logged, audited or printed by an attempt.

`redactor` masks known values; `redaction` masks by name and shape. Nothing here imports an app above `fleet`.
"""

"""Attacks on Postgres, the audit trail, Redis and stored files by those who can write there."""

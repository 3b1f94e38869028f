"""Attacks on the fleet, and the defences against them (docs/security.md)."""

"""Attempts to do or see more than one's permissions allow, or after they have ended."""

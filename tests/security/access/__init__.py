"""Attempts to do or see more than one's permissions allow, or to keep permissions that have ended."""

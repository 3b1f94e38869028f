"""Attacks by work on git and on the copies and repositories of others."""

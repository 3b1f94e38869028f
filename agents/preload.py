"""Loads what the site needs before it forks: the callables, which it checks plans against."""

from agents import discovery

discovery.discover()

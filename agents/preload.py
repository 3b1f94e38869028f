"""What the site loads before it forks: the callables, against which it checks plans."""

from agents import discovery

discovery.discover()

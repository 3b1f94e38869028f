"""What the site loads before it forks the processes that answer: plans are held against the registered callables."""

from agents import discovery

discovery.discover()

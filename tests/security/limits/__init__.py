"""Attempts to use up memory, disks, processes, connections or the time of the site."""

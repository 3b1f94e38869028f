"""This host: its processes, and the programs that the fleet trusts. Imports nothing of Django but the settings."""

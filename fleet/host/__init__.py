"""This host: its processes, how they start, and the programs that the fleet trusts.

Imports nothing of Django but the settings, and `launch` imports nothing of the fleet.
"""

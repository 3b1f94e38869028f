"""Reads for the commands, the API, the admin and the metrics. Nothing here changes a mission.

`visibility` restricts every read to what the caller may see.
"""

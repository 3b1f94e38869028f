"""Reads for the commands, the API, the admin and the metrics. Nothing here changes a mission.

`visibility` restricts the API to what its caller may see. The commands and the admin see everything.
"""

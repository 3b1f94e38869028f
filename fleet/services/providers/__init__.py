"""Providers of Postgres and Redis: `embedded` starts its own servers, `external` watches servers that others run.

`base.choose` selects one by the settings. Nothing here knows the other processes of the fleet.
"""

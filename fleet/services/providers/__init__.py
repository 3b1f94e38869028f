"""Providers of Postgres and Redis: `embedded` and `containers` start servers, `external` watches servers of others.

`base.choose` selects one by the settings. Nothing here knows the other processes of the fleet.
"""

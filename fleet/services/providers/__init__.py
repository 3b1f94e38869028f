"""Providers of Postgres and Redis: `embedded` and `containers` start servers, `external` watches existing servers.

`base.choose` selects one by the settings. Nothing here knows the other processes of the fleet.
"""

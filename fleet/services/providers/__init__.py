"""Where Postgres and Redis come from: the embedded provider starts its own, the external one watches somebody else's.

`base.choose` picks one by the settings. Nothing here knows of the processes that work for the fleet.
"""

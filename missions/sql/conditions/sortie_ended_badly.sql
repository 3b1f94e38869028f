-- `ended_badly` of missions/states.py
row.state IN ('skipped', 'cancelled') OR row.state = 'failed' AND NOT row.allow_failure

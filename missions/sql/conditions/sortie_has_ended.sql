-- FINAL_SORTIE_STATES of missions/states.py
row.state IN ('succeeded', 'failed', 'skipped', 'cancelled')

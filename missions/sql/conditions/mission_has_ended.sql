-- FINAL_MISSION_STATES of missions/states.py
row.state IN ('succeeded', 'failed', 'cancelled')

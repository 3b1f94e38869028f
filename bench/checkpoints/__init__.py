"""Checkpoints of a large mission.

`durations` times each operation on a `large_mission`; `capture_load` measures how much captures slow down a running
mission; `langgraph` compares with langgraph-checkpoint-postgres, which `langgraph_contender` runs in its own
virtualenv.
"""

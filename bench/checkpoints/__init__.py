"""Checkpoints of a large mission.

`durations` times each operation on a `large_mission`; `capture_load` measures what captures cost a mission that runs;
`langgraph` compares with langgraph-checkpoint-postgres, which `langgraph_contender` runs in a virtualenv of its own.
"""

"""Missions and their sorties: plans, engine, control loop, operations, queries, API, admin and commands."""

"""The process that runs the agents of one host: it starts and supervises them, measures them and ships their logs.

`supervisor.Node` is the entry point (`manage.py fleet_node`). It knows nothing of missions or sorties.
"""

"""The node: the process that starts and supervises the agents of one host, measures them and ships their logs.

`supervisor.NodeSupervisor` is the entry point (`manage.py fleet_node`). `fleet_cleanup` also uses `log_shipping` and
`sampling`. A node knows nothing of missions or sorties.
"""

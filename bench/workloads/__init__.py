"""The fleet compared with bare Celery.

`contenders` starts the two and runs a workload with either; `measures` runs all workloads in alternating rounds.
`bare` is the Celery application, `callables` the fleet's callable, `slowdisk.c` slows the disk of Postgres down.
`cpu_s` and `Fleet` of `contenders` serve the other benchmarks too.
"""

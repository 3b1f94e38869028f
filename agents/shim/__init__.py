"""The shim: the small process between a worker and the workload of one attempt.

It imports only the standard library, so that it starts quickly. Its driver's side is `agents/drivers/shim.py`; other
packages import only `beneath` and `tree`.
"""

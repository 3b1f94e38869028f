"""HTTP semantics of the API: conditional requests, ranges, JSON bodies, paging, and errors outside of any view.

It knows nothing of missions, agents or permissions.
"""

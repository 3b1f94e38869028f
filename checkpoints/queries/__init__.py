"""What the interfaces show of checkpoints.

`lookup` finds checkpoints by what people type. `summaries` has them as data, and `bounds` limits the size of that data
for the API and the admin. `visibility` says which checkpoints a caller may see.
Only `admin`, `api` and `management` call this package. It changes nothing.
"""

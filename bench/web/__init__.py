"""The API under load.

`api` measures it on a database with a history (`history.sql`), with the `clients` that generate the load. `servers`
compares our web server with others, which serve `site`.
"""

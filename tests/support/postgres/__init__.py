"""The Postgres of the tests: clusters, databases, PgBouncer, and a superuser who reads or changes the audit trail."""

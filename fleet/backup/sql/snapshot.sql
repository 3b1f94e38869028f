-- Export the snapshot of this transaction; also its time, the server's version and the name of the database.
SELECT pg_export_snapshot(), transaction_timestamp(), current_setting('server_version_num')::int, current_database()

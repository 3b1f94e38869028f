-- Another cluster may be at a smaller transaction id. If so, give all events the id of a transaction that ended long
-- ago (2 is FrozenTransactionId). Otherwise readers would wait for transactions of the future.
UPDATE fleet_event SET xid = 2
WHERE (SELECT max(xid) FROM fleet_event) >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- Insert one entry. The database sets its id, time, transaction and cluster.
INSERT INTO fleet_audit.entry (kind, outcome, actor, user_id, address, request, subject, before, after, data)
VALUES (%(kind)s, %(outcome)s, %(actor)s, %(user)s, %(address)s, %(request)s, %(subject)s,
        %(before)s::jsonb, %(after)s::jsonb, %(data)s::jsonb)

-- The migrations that were applied.
SELECT app, name FROM django_migrations

SELECT app, name FROM django_migrations

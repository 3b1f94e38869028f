"""Flower, Celery's own monitor: how it is started, where it listens, and the door to it through the site."""

"""Loads what sending a hint needs before the site forks its worker processes, so that the first launch is not slow."""

from fleet.celery import app

app.finalize()
app.connection_for_write().get_transport_cls()
app.amqp.Producer, app.events  # noqa: B018

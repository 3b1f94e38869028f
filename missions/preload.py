"""Loaded by the site before it forks its worker processes: whatever sends the hints of the first launch."""

from fleet.celery import app

app.finalize()
app.connection_for_write().get_transport_cls()
app.amqp.Producer, app.events  # noqa: B018

"""Celery's Redis transport without its bookkeeping of unacknowledged messages.

Kombu keeps each delivered message in two Redis structures until it is acknowledged, and redelivers it after a
visibility timeout. In the fleet a message is a hint that may be lost or duplicated: it points at rows in Postgres, and
rows that nobody claims are hinted again. The bookkeeping costs nearly half of the CPU time of a worker's main
process, so it is left out. Prefetch is still counted, in memory.

Messages that cannot be read are discarded. With kombu's own transport, one of them ends the worker that takes it, and
with it all attempts of that agent.

`SentinelTransport` does the same for servers that Sentinels watch. Kombu's own would treat the Sentinels as alternative
brokers, and change to its own transport when it tries the next one.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis, virtual
from redis import exceptions, sentinel

log = logging.getLogger("fleet.transport")

# Errors of the connection, after which the worker connects again. Any other error is the message's fault.
_CONNECTION_ERRORS = (exceptions.RedisError, OSError)
_UNREADABLE = (ValueError, TypeError, RecursionError)  # by the JSON of a message


class QoS(virtual.QoS):
    """Counts delivered, unacknowledged messages in memory, and never restores them."""

    restore_at_shutdown = False

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: rows that nobody claims are hinted again."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        if self._delivered is not None:
            self._delivered.clear()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.ack(delivery_tag)


class Channel(redis.Channel):
    QoS = QoS  # type: ignore[assignment]  # a virtual.QoS, as kombu requires, but not Redis's

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # not in the stubs
        except _UNREADABLE as error:
            _log_discarded(error)
            return True

    def _receive_one(self, c: Any) -> Any:
        try:
            return super()._receive_one(c)  # type: ignore[misc]  # not in the stubs
        except _UNREADABLE as error:
            _log_discarded(error)
            return True


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        earlier = {tag for _, tag in self._unacknowledged()}
        try:
            super()._deliver(message, queue)
        except _CONNECTION_ERRORS:
            raise
        except Exception as error:
            _log_discarded(error)
            for channel, tag in self._unacknowledged():
                if tag not in earlier:  # the message must not count as prefetched forever
                    channel.qos.ack(tag)

    def _unacknowledged(self) -> list[tuple[Any, str]]:
        """The channels and tags of delivered messages that were not acknowledged."""
        return [(channel, tag) for channel in self.channels or () for tag in channel.qos._delivered or ()]


def _log_discarded(error: Exception) -> None:
    log.warning("a message was discarded, because it cannot be read (%s)", type(error).__name__)


class SentinelChannel(Channel):
    """Connects to the master that the Sentinels name. The options are those of kombu's own SentinelChannel."""

    from_transport_options = (*redis.Channel.from_transport_options, "master_name", "sentinels", "sentinel_kwargs")
    connection_class = sentinel.SentinelManagedConnection
    connection_class_ssl = sentinel.SentinelManagedSSLConnection
    master_name = ""
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_kwargs: dict[str, Any] = {}

    def _get_pool(self, asynchronous: bool = False) -> sentinel.SentinelConnectionPool:
        options = self._connparams(asynchronous=asynchronous)  # type: ignore[attr-defined]
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=options["db"])
        manager = sentinel.Sentinel(  # type: ignore[no-untyped-call]
            self.sentinels, sentinel_kwargs=self.sentinel_kwargs
        )
        if asynchronous:
            self._async_sentinel_manager = manager  # kombu closes both with the channel
        else:
            self._sentinel_manager = manager
        master_options = {name: value for name, value in options.items() if name not in {"host", "port"}}
        return sentinel.SentinelConnectionPool(self.master_name, manager, **master_options)  # type: ignore[no-untyped-call]


class SentinelTransport(Transport):
    Channel = SentinelChannel
    default_port = 26379

"""Stores a state in Postgres with langgraph-checkpoint-postgres.

`bench.checkpoints.langgraph` runs this file in its own virtualenv.

The first line of stdin is the task (JSON): `url` of an empty database, `layout`, and `state`, a dict of each sortie's
values by its key. The first checkpoint is stored at once. Each further line is a list of lists of keys: for each of
these lists, those sorties change, and a checkpoint is stored. The answers are the seconds of each. At the end of stdin,
the last checkpoint is read back and compared with the state, and the last answer has the bytes of the tables.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from importlib.metadata import version
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
THREAD = {"thread_id": "bench", "checkpoint_ns": ""}

State = dict[str, dict[str, Any]]


def channels_of(layout: str, keys: list[str]) -> dict[str, list[str]]:
    """The channels of a layout, and the keys of the sorties in each."""
    channels: dict[str, list[str]] = {}
    for key in keys:
        bucket = hashlib.sha256(key.encode()).hexdigest()[:2]
        channel = {"one": "sorties", "delta": "sorties", "sortie": key, "bucket": f"sorties_{bucket}"}[layout]
        channels.setdefault(channel, []).append(key)
    return channels


class Thread:
    """A thread of checkpoints, stored as the library's own graphs store them: `put` with the changed channels.

    The layout `delta` is that of `DeltaChannel`: the first checkpoint has the whole value, and further ones store only
    what was written.
    """

    def __init__(self, saver: PostgresSaver, *, layout: str, state: State) -> None:
        self.saver, self.delta, self.state = saver, layout == "delta", state
        self.channels = channels_of(layout, list(state))
        self.channel_of = {key: channel for channel, keys in self.channels.items() for key in keys}
        self.values = {channel: {key: state[key] for key in keys} for channel, keys in self.channels.items()}
        self.versions: dict[str, Any] = {}
        self.config: dict[str, Any] = {"configurable": dict(THREAD)}
        self.step = -1

    def store(self, keys: list[str]) -> float:
        """Store a checkpoint after these sorties have changed; returns the seconds."""
        first = self.step < 0
        changed = sorted({self.channel_of[key] for key in keys})
        values: dict[str, Any] = dict(self.values)
        if self.delta:
            values = {"sorties": _DeltaSnapshot(self.values["sorties"])} if first else {}
        began = time.perf_counter()
        if self.delta and not first:
            writes = [("sorties", {key: self.state[key]}) for key in keys]
            self.saver.put_writes(self.config, writes, task_id=str(uuid6()))
        new = {channel: self.saver.get_next_version(self.versions.get(channel), None) for channel in changed}
        self.versions = {**self.versions, **new}
        self.step += 1
        checkpoint = empty_checkpoint()
        checkpoint |= {"channel_values": values, "channel_versions": self.versions, "updated_channels": changed}
        self.config = self.saver.put(self.config, checkpoint, {"source": "loop", "step": self.step, "parents": {}}, new)
        return time.perf_counter() - began

    def stored_state(self) -> State:
        """The state that the last checkpoint has."""
        if self.delta:
            history = self.saver.get_delta_channel_history(config=self.config, channels=["sorties"])["sorties"]
            seed = history["seed"]
            state: State = dict(seed.value if isinstance(seed, _DeltaSnapshot) else seed)
            for _, _, write in history["writes"]:
                state |= write
            return state
        stored = self.saver.get_tuple(self.config)
        assert stored is not None
        return {
            key: values for channel in stored.checkpoint["channel_values"].values() for key, values in channel.items()
        }


def table_bytes(saver: PostgresSaver) -> int:
    """The size of the library's tables with their indexes and large values, after VACUUM."""
    total = 0
    for table in TABLES:
        saver.conn.execute(f"VACUUM {table}")
        row = saver.conn.execute("SELECT pg_total_relation_size(%s::regclass) AS bytes", [table]).fetchone()
        total += row["bytes"]
    return total


def reply(value: object) -> None:
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def main() -> None:
    task = json.loads(sys.stdin.readline())
    state: State = task["state"]
    with PostgresSaver.from_conn_string(task["url"]) as saver:
        saver.setup()
        empty = table_bytes(saver)
        thread = Thread(saver, layout=task["layout"], state=state)
        first_s = thread.store(list(state))
        first = table_bytes(saver)
        reply({"version": version("langgraph-checkpoint-postgres"), "first_s": first_s, "first_bytes": first - empty})
        for line in sys.stdin:
            seconds = []
            for keys in json.loads(line):
                for key in keys:
                    state[key]["tries"] += 1
                seconds.append(thread.store(keys))
            reply(seconds)
        if thread.stored_state() != state:
            raise SystemExit(f"The last checkpoint of the layout {task['layout']} does not have the state.")
        reply({"bytes": table_bytes(saver) - first})


if __name__ == "__main__":
    main()

"""The fleet and bare Celery: each starts its processes and runs workloads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import redis

from bench import ROOT

TIMEOUT_S = 120.0
POLL_S = 0.004  # between two checks for the end of a workload, for both


def wait(condition: Callable[[], Any], *, every_s: float = 0.002) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the workload did not end in time")
        time.sleep(every_s)


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time in seconds of these processes and all their descendants, including ended ones."""
    spent = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        spent += sum(process.cpu_times()[:4])
        spent += sum(sum(child.cpu_times()[:4]) for child in process.children(recursive=True))
    return spent


class Bare:
    """Two prefork worker processes of bare Celery."""

    def __init__(self, *, env: dict[str, str], log: Path) -> None:
        os.environ["BARE_REDIS"] = env["BARE_REDIS"]
        from bench.workloads import bare  # noqa: PLC0415  (reads its broker from the environment)

        self.bare = bare
        self.store = redis.Redis.from_url(env["BARE_REDIS"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "bench.workloads.bare", "worker", "-Q", "bare", "-c", "2", "--pool", "prefork",
             "--without-mingle", "--without-gossip", "--loglevel", "ERROR"],
            cwd=ROOT, env=env, stdout=log.open("ab"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.independent(1)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid]

    def _run(self, start: Callable[[], Any], ends: int = 1) -> float:
        self.store.set("ended", 0)
        began = time.perf_counter()
        start()
        wait(lambda: int(self.store.get("ended") or 0) >= ends and not self.store.llen("bare"), every_s=POLL_S)
        return time.perf_counter() - began

    def independent(self, count: int) -> float:
        return self._run(lambda: [self.bare.noop.delay(last=n == count - 1) for n in range(count)])

    def fans(self, missions: int) -> float:
        self.store.delete(*[f"join:{n}" for n in range(missions)])
        return self._run(lambda: [self.bare.fan.delay(n, 0) for n in range(missions)], missions)

    def chain(self, length: int) -> float:
        return self._run(lambda: self.bare.chain.delay(length))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Fleet:
    """A node with two agents of one type and one of another, and the control loop, on durable Postgres."""

    def __init__(self, *, env: dict[str, str], log: Path) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.env, self.log = env, log
        from agents import operations as agents  # noqa: PLC0415  (Django must be set up first)
        from agents.models import Agent, AgentType  # noqa: PLC0415
        from fleet.postgres import hot_path  # noqa: PLC0415
        from missions import operations, plan  # noqa: PLC0415
        from missions.queries import plan_context  # noqa: PLC0415

        self.operations, self.plan, self.plan_context = operations, plan, plan_context
        self.agent_operations, self.agents = agents, Agent
        self.watch = hot_path.connect(name="bench")
        AgentType.objects.update(agents=0)
        AgentType.objects.filter(name="backend").update(agents=2)
        AgentType.objects.filter(name="testing").update(agents=1)
        for command in ("fleet_control", "fleet_node"):
            self._spawn(["manage.py", command])
        wait(lambda: Agent.objects.filter(state="idle").count() == 3, every_s=0.1)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def _spawn(self, arguments: list[str]) -> None:
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *arguments], cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def _plan(self, sorties: dict[str, Any], **keys: Any) -> Any:
        text = json.dumps({"mission": "bench", "sorties": sorties, **keys})
        return text, self.plan.load(text=text, context=self.plan_context.current())

    def _launch(self, text: str, parsed: Any) -> Any:
        return self.operations.launch(plan=parsed, text=text, params={}, folder="", by=None, can_execute=True).id

    def _succeeded(self, missions: list[Any]) -> bool:
        (count,) = self.watch.execute(
            "SELECT count(*) FROM missions_mission WHERE id = ANY (%s) AND state = 'succeeded'", [missions]
        ).fetchone() or (0,)
        return bool(count == len(missions))

    def _run(self, plans: list[tuple[str, Any]]) -> float:
        """Seconds from the first launch until all missions have succeeded. `accept` measures reading the plans."""
        began = time.perf_counter()
        ids = [self._launch(text, parsed) for text, parsed in plans]
        wait(lambda: self._succeeded(ids), every_s=POLL_S)
        return time.perf_counter() - began

    def independent(self, count: int) -> float:
        return self._run([self._plan({f"s{n}": {"agent": "backend", "driver": "scripted"} for n in range(count)})])

    def fans(self, missions: int, *, width: int = 50) -> float:
        sortie = {"agent": "backend", "driver": "scripted"}
        middle = {f"m{n}": {**sortie, "needs": ["a"]} for n in range(width)}
        return self._run([self._plan({"a": sortie, **middle, "z": {**sortie, "needs": list(middle)}})] * missions)

    def chain(self, length: int, *, alternate: bool = False) -> float:
        types = ("backend", "testing" if alternate else "backend")
        sorties = {
            f"s{n}": {"agent": types[n % 2], "driver": "scripted", **({"needs": [f"s{n - 1}"]} if n else {})}
            for n in range(length)
        }
        return self._run([self._plan(sorties)])

    def each(self, count: int, **work: Any) -> float:
        """Seconds per sortie that starts a process, with four at a time."""
        return self._run([self._plan({f"s{n}": {"agent": "backend", **work} for n in range(count)})]) / count

    def mission(self, count: int, *, on_launch: Callable[[UUID], None], **work: Any) -> float:
        """Seconds from the end of the launch of a mission until it has succeeded. `on_launch` gets its id.

        The mission has no automatic captures.
        """
        sorties = {f"s{n}": {"agent": "backend", **work} for n in range(count)}
        mission = self._launch(*self._plan(sorties, checkpoints={"at": [], "on": []}))
        began = time.perf_counter()
        on_launch(mission)
        wait(lambda: self._succeeded([mission]), every_s=POLL_S)
        return time.perf_counter() - began

    def accept(self, count: int) -> tuple[float, float]:
        """Seconds to read and launch a plan of `count` sorties, and the growth of this process in megabytes."""
        text = json.dumps(
            {"mission": "big", "sorties": {f"s{n}": {"agent": "security", "driver": "scripted"} for n in range(count)}}
        )
        before, began = psutil.Process().memory_info().rss, time.perf_counter()
        mission = self._launch(text, self.plan.load(text=text, context=self.plan_context.current()))
        elapsed = time.perf_counter() - began
        self.operations.cancel(mission=mission)
        return elapsed, (psutil.Process().memory_info().rss - before) / 1e6

    def memory_mb(self) -> float:
        """Proportional set size of the node, its agents and the control loop at rest."""
        processes = [psutil.Process(pid) for pid in self.pids]
        processes += [child for process in processes for child in process.children(recursive=True)]
        pss = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                pss += process.memory_full_info().pss
        return pss / 1e6

    def spawn(self, count: int) -> list[float]:
        """Seconds from the spawn order until each of `count` agents has reported. Ends the agents afterwards."""
        began = time.perf_counter()
        ordered = [agent.id for agent in self.agent_operations.spawn(type="security", count=count)]
        reported: dict[Any, float] = {}
        while len(reported) < count:
            if time.perf_counter() - began > TIMEOUT_S:
                raise TimeoutError("not every agent has reported in time")
            for (agent,) in self.watch.execute(
                "SELECT id FROM agents_agent WHERE id = ANY (%s) AND state = 'idle'", [ordered]
            ).fetchall():
                reported.setdefault(agent, time.perf_counter() - began)
            time.sleep(0.002)
        self.agent_operations.order(agents=ordered, order=self.agents.Order.NOW, reason="It was measured.")
        wait(lambda: not self.agents.objects.filter(id__in=ordered, ended_at=None).exists(), every_s=0.02)
        return list(reported.values())

    def crash(self) -> float:
        """Seconds from killing an agent (SIGKILL) until its sortie runs again on another agent."""
        sortie = {"agent": "backend", "driver": "scripted", "with": {"hold": True}}
        mission = self._launch(*self._plan({"held": sortie}))

        def pid_of_agent(attempt: int) -> int | None:
            row = self.watch.execute(
                "SELECT a.pid FROM missions_sortie s JOIN agents_agent a ON a.id = s.agent_id"
                " WHERE s.mission_id = %s AND s.state = 'running' AND s.attempt = %s",
                [mission, attempt],
            ).fetchone()
            return int(row[0]) if row else None

        wait(lambda: pid_of_agent(1))
        os.kill(pid_of_agent(1) or 0, signal.SIGKILL)
        began = time.perf_counter()
        wait(lambda: pid_of_agent(2))
        elapsed = time.perf_counter() - began
        self.operations.cancel(mission=mission)
        wait(lambda: self.agents.objects.filter(type="backend", state="idle").count() == 2, every_s=0.05)
        return elapsed

    def two_nodes(self) -> float:
        """How many times faster two nodes finish sorties that only wait than one node does."""
        self.each(8, run="true")
        alone = self.each(40, run="sleep 2")
        self._spawn(["manage.py", "fleet_node", "--name", "second"])
        wait(lambda: self.agents.objects.filter(state="idle").count() == 6, every_s=0.1)
        self.each(16, run="true")
        together = self.each(40, run="sleep 2")
        second = self.processes.pop()
        second.terminate()
        second.wait()
        wait(lambda: self.agents.objects.filter(ended_at=None).count() == 3, every_s=0.1)
        return alone / together

    def stop(self) -> None:
        self.watch.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

"""Sortie specifications: defaults, and conversion to JSON and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from missions import plan
from tests.missions.plan.plans import load, sorties

WORDS = st.text(max_size=8)
COMMANDS = st.none() | WORDS | st.lists(WORDS, max_size=3).map(tuple)
SECONDS = st.none() | st.floats(0.001, 1e6)
VALUES = st.dictionaries(
    WORDS, st.none() | st.booleans() | st.integers() | WORDS | st.lists(WORDS, max_size=2), max_size=2
)
SPECS = st.builds(
    plan.SortieSpec,
    key=WORDS,
    name=WORDS,
    agent_type=WORDS,
    driver=st.sampled_from(["command", "python", "prompt", "scripted"]),
    groups=st.dictionaries(WORDS, st.lists(WORDS, max_size=3).map(tuple), max_size=3),
    matrix_needs=st.frozensets(WORDS, max_size=2),
    matrix=VALUES,
    run=COMMANDS,
    call=st.none() | WORDS,
    prompt=st.none() | WORDS,
    arguments=VALUES,
    verify=COMMANDS,
    env=st.dictionaries(WORDS, WORDS, max_size=2),
    cwd=st.none() | WORDS,
    outputs=st.lists(WORDS, max_size=2).map(tuple),
    allow_failure=st.booleans(),
    always=st.booleans(),
    priority=st.integers(-1000, 1000),
    timeout_s=SECONDS,
    silence_s=SECONDS,
    alert_silence_s=SECONDS,
    retry=st.builds(plan.Retry, max_attempts=st.integers(1, 100), backoff_s=st.floats(0.1, 60.0), jitter=st.booleans()),
    concurrency=st.none() | st.builds(plan.Concurrency, key=WORDS, limit=st.integers(1, 9)),
    run_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(SPECS)
def test_a_spec_survives_a_round_trip_through_json(spec: plan.SortieSpec) -> None:
    assert plan.SortieSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


def test_json_omits_defaults() -> None:
    spec = sorties("a: {agent: testing, run: x}")["a"]
    assert spec.as_json() == {"key": "a", "name": "a", "agent_type": "testing", "driver": "command", "run": "x"}


def test_a_key_of_a_later_version_is_ignored() -> None:
    data = {"key": "a", "name": "a", "agent_type": "testing", "driver": "command", "of_later": 1}
    assert plan.SortieSpec.from_json(data).key == "a"


def test_defaults_apply_unless_a_sortie_overrides_them() -> None:
    parsed = load("""\
mission: M
objective: To see.
on_failure: stop
priority: 5
defaults:
  agent: testing
  timeout: 1h30m
  silence: 250ms
  retry: {max_attempts: 3, backoff: 1s}
  env: {A: 1, B: b}
  cwd: work
sorties:
  usual: {run: x}
  other:
    {agent: backend, prompt: y, timeout: 1.5h, silence: 7, priority: -1, retry: {backoff: 4s}, env: {B: c}, cwd: "."}
""")
    usual, other = parsed.sorties
    assert (parsed.name, parsed.objective, parsed.on_failure, parsed.priority) == ("M", "To see.", "stop", 5)
    assert (usual.agent_type, usual.timeout_s, usual.silence_s, usual.priority) == ("testing", 5_400.0, 0.25, 5)
    assert usual.retry == plan.Retry(max_attempts=3, backoff_s=1.0)
    assert (usual.env, usual.cwd) == ({"A": "1", "B": "b"}, "work")
    assert (other.agent_type, other.timeout_s, other.silence_s, other.priority) == ("backend", 5_400.0, 7.0, -1)
    assert other.retry == plan.Retry(max_attempts=3, backoff_s=4.0)
    assert (other.env, other.cwd, other.driver) == ({"A": "1", "B": "c"}, ".", "prompt")


def test_a_sortie_has_everything_that_the_plan_says() -> None:
    spec = sorties(
        "a: {agent: testing, call: 'examples.repo_audit:score', with: {top: 10}, if: always, allow_failure: true,"
        " concurrency: {key: db, limit: 2}, run_at: '2030-01-31T06:00:00+01:00', outputs: [out/a.txt],"
        " verify: 'test -e a'}"
    )["a"]
    assert (spec.driver, spec.call, spec.arguments) == ("python", "examples.repo_audit:score", {"top": 10})
    assert (spec.always, spec.allow_failure) == (True, True)
    assert spec.concurrency == plan.Concurrency(key="db", limit=2)
    assert spec.run_at == datetime(2030, 1, 31, 5, tzinfo=UTC)
    assert (spec.outputs, spec.verify) == (("out/a.txt",), "test -e a")


def test_a_driver_may_be_named_next_to_its_kind_of_work() -> None:
    assert sorties("a: {agent: testing, driver: command, run: x}")["a"].driver == "command"

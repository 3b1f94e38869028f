"""Secrets of a plan or an agent type are passed to the work and masked everywhere else."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from agents.models import AgentType
from fleet.events.models import Event
from missions import plan
from missions.engine.process.runtime import Engine
from missions.models import Attempt, Output, Sortie
from missions.operations import external_agents
from missions.queries import sortie_json
from tests.missions.plan import plans
from tests.support import fleet

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

SECRET = "s3cret/wörd+of-a plan"
TYPED, ALLOWED = "Of-the-type-1234567", "sk-looks-like-one-9876"

SPEAK = """
import base64, json, os, sys, urllib.parse
code = int(sys.argv[1])
for name in ("MINE", "TYPED", "MODEL_API_KEY"):
    value = os.environ[name]
    print(value, base64.b64encode(b"u:" + value.encode()).decode(), urllib.parse.quote(value, safe=""))
    sys.stdout.flush()
    os.write(2, value.encode()[:5]); os.write(2, value.encode()[5:] + b"\\n")
    open(os.environ["FLEET_PROGRESS"], "w").write("0.5 with " + value + "\\n")
    header = "Basic " + base64.b64encode(value.encode()).decode()
    json.dump({value: [value, {"header": header}]}, open(os.environ["FLEET_RESULT"], "w"))
    json.dump([{"name": "next", "agent": "backend", "run": ["echo", value]}], open(os.environ["FLEET_SORTIES"], "w"))
print("open:", os.environ["OPEN"], file=sys.stderr)
print("failing with", os.environ["MINE"], os.environ["TYPED"], os.environ["MODEL_API_KEY"], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def type_with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TYPED", TYPED)
    monkeypatch.setenv("MODEL_API_KEY", ALLOWED)
    AgentType.objects.filter(name="backend").update(env_allow=["MODEL_API_KEY"], env_secret=["TYPED"])


def visible_text() -> str:
    """Everything that users can see: all rows, except the plan and its parts that are stored for the work."""
    rows: list[Any] = [*Attempt.objects.values_list("result", "error", "note"), *Output.objects.values_list("text")]
    rows += [*Event.objects.values_list("data"), *Sortie.objects.values_list("waits_for", "key")]
    return json.dumps(rows, ensure_ascii=False, default=str)


def forms(secret: str) -> list[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return [secret, quote(secret, safe=""), encoded[:-4], base64.b64encode(b"u:" + secret.encode()).decode()[4:-4]]


@pytest.mark.parametrize("code", [0, 3])
def test_secrets_are_masked_in_everything_that_the_work_reports(engine: Engine, code: int) -> None:
    env = {"MINE": {"value": SECRET, "secret": True}, "OPEN": {"value": "is shown"}}
    retry = {"max_attempts": 2, "backoff": "1ms"}
    mission = fleet.launch({"it": {"run": ["python3", "-c", SPEAK, str(code)], "env": env, "retry": retry}})
    assert fleet.run_to_end(engine, mission) == ("failed" if code else "succeeded")
    text = visible_text()
    assert not [form for secret in (SECRET, TYPED, ALLOWED) for form in forms(secret) if form in text]
    assert "open: is shown" in text
    assert "failing with [redacted] [redacted] [redacted]" in text
    if code:
        assert "Its last output: failing with [redacted]" in Attempt.objects.get(number=1).error
    else:
        document = json.dumps(list(sortie_json.of_mission(mission)), default=str)
        assert "[redacted]" in document
        assert Attempt.objects.get(sortie__key="next").result == {"output": "[redacted]\n"}


def test_a_default_can_be_secret_and_templates_are_rendered_first(engine: Engine) -> None:
    mission = fleet.launch(
        {"it": {"run": 'echo "$KEY"; echo "$KEY" > /dev/stderr'}},
        inputs={"key": {"default": "given-at-launch"}},
        defaults={"env": {"KEY": {"value": "{{ inputs.key }}", "secret": True}}},
    )
    assert fleet.run_to_end(engine, mission) == "succeeded"
    assert Attempt.objects.get().result == {"output": "[redacted]\n"}
    assert "given-at-launch" not in visible_text()


def test_an_external_agent_gets_secrets_and_its_reports_are_masked() -> None:
    env = {"MINE": {"value": SECRET, "secret": True}}
    fleet.launch({name: {"run": "true", "env": env} for name in ("good", "bad")})
    agent = external_agents.register(agent_type="backend", concurrency=2).id
    good, bad = external_agents.claim(agent=agent, count=2)
    assert good.work["env"] == {"MINE": SECRET}
    assert good.work["secret_env"] == ["MINE"]
    external_agents.progress(token=good.token, fraction=0.5, note=f"with {SECRET}", output=f"{SECRET} {good.token}\n")
    outcome = {"result": {"is": [SECRET, good.token]}, "added": [{"name": "next", "agent": "backend", "run": SECRET}]}
    assert external_agents.complete(token=good.token, **outcome) == "succeeded"  # type: ignore[arg-type]
    assert external_agents.complete(token=good.token, **outcome) == "succeeded"  # type: ignore[arg-type]
    assert external_agents.fail(token=bad.token, error=f"refused {SECRET}") == "failed"
    text = visible_text()
    assert SECRET not in text
    assert good.token.rpartition(".")[2] not in text
    assert "refused [redacted]" in text


def test_the_admin_masks_secrets_of_the_plan(admin_client: Client) -> None:
    env = {"MINE": {"value": SECRET, "secret": True}, "OPEN": "is shown"}
    mission = fleet.launch({"it": {"run": "true", "env": env}})
    page = admin_client.get(f"/admin/missions/mission/{mission.id}/change/").content.decode()
    sortie = admin_client.get(f"/admin/missions/sortie/{Sortie.objects.get().id}/change/").content.decode()
    assert "is shown" in page
    assert "is shown" in sortie
    assert "[redacted]" in page
    assert "[redacted]" in sortie
    assert "s3cret" not in page + sortie


@pytest.mark.parametrize(
    "line",
    [
        'env: {MINE: {value: "s3cret-of-a-plan", secret: true}}',
        "env: {MINE: {value: 's3cret-of-a-plan', secret: true}}",
        'env: {MINE: {value: "\\x733cret-of-a-plan", secret: true}}',
        "env: {MINE: {secret: true, value: &it s3cret-of-a-plan}, SAME: {value: *it, secret: true}}",
        "env: {MINE: {secret: true, value: >-\n      s3cret-of-a-plan\n      in two lines}}",
    ],
)
def test_secrets_of_a_plan_are_masked_however_they_are_written(line: str) -> None:
    text = f"mission: m\nsorties:\n  a:\n    agent: backend\n    run: 'true'\n    {line}\n"
    if ">-" in line:
        text = text.replace(
            "env: {MINE: {secret: true, value: >-", "env:\n      MINE:\n        secret: true\n        value: >-"
        )
        text = text.replace("\n      s3cret", "\n          s3cret").replace(
            "\n      in two lines}}", "\n          in two lines"
        )
    assert plans.load(text)
    document = plan.masked(text)
    assert "cret-of-a-plan" not in document
    assert document.startswith(("mission: m", "This plan contains secrets"))


def test_validate_warns_of_secrets_that_are_too_short_to_mask() -> None:
    parsed = plans.load(
        "mission: m\ndefaults:\n  env: {A: {value: short, secret: true}}\nsorties:\n"
        "  a: {agent: backend, run: 'true', env: {B: {value: 1234567, secret: true}, C: {value: long enough, secret: true}}}\n"
    )
    warnings = plan.warnings(parsed)
    assert [warning.where for warning in warnings] == ["defaults.env.A", "sorties.a.env.B"]
    assert "fewer than 8 characters" in warnings[0].text
    assert parsed.sorties[0].env == {"A": "short", "B": "1234567", "C": "long enough"}
    assert parsed.sorties[0].secret_env == {"A", "B", "C"}
    assert plan.SortieSpec.from_json(json.loads(json.dumps(parsed.sorties[0].as_json()))) == parsed.sorties[0]


@pytest.mark.parametrize(
    "entry, words",
    [
        ("{secret: true}", '"value" is missing'),
        ("{value: x, hidden: true}", '"hidden" is not known'),
        ("{value: [x]}", "must be a whole number"),
        ("{value: x, secret: perhaps}", "must be true or false"),
        ("[x]", "must be a whole number"),
    ],
)
def test_an_invalid_variable_is_refused_with_the_valid_forms(entry: str, words: str) -> None:
    problems = plans.problems(f"mission: m\nsorties:\n  a: {{agent: backend, run: 'true', env: {{A: {entry}}}}}\n")
    assert words in str(problems[0])

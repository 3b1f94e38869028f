"""A task for an agent type that cannot take it is refused in terms of the task, not of a plan that nobody wrote."""

from __future__ import annotations

import pytest

from agents.models import AgentType
from tests.support.console import manage

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)
COMMANDS = [("fleet_spawn",), ("fleet_agents", "spawn")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_type_without_prompts_is_refused_with_the_command_that_changes_it(command: tuple[str, ...]) -> None:
    AgentType.objects.filter(name="backend").update(prompt_argv=[])
    result = manage(*command, "backend", "Mend it.")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "The agent type 'backend' takes no prompts. Set the command that reads them, for example: "
        './manage.py fleet_agents type set backend --prompt-argv \'["claude", "-p"]\'\n'
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_type_is_refused_with_the_nearest_name(command: tuple[str, ...]) -> None:
    result = manage(*command, "backends", "Mend it.")
    assert (result.code, result.out) == (2, "")
    assert result.err == 'There is no agent type "backends". Did you mean "backend"?\n'

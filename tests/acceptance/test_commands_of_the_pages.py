"""Every command in the documentation works as it is written, or a comment above it says why no test runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from scripts import docs
from tests.acceptance.conftest import Fleet, running
from tests.support import pages
from tests.support.paths import CHECKOUT

pytestmark = [pytest.mark.xdist_group("pages"), pytest.mark.timeout(900)]
PASSWORD = "a long enough password"


@dataclass(frozen=True)
class PageSetup:
    """What a page needs before its first command, and the values of its placeholders.

    `before` is shell code. The values of `replace` may refer to variables that it sets.
    """

    before: str = ""
    replace: Mapping[str, str] = field(default_factory=dict)


# `pick 0 id` prints a part of the JSON that it reads.
PICK = """
pick() { python3 -c 'import functools, json, sys
value = json.load(sys.stdin)
for key in sys.argv[1:]: value = value[int(key) if isinstance(value, list) else key]
print(value)' "$@"; }
"""
SITE = "SITE=$(manage.py fleet_status --json | pick urls admin | sed 's#/admin/$##')"
PASSWORD_OF_ADMIN = "ADMIN=$(pick admin_password < .fleet/private/credentials.json)"
MISSION = """
cat > mission.json <<'EOF'
{"mission": "A mission", "sorties": {"build": {"agent": "backend", "run": "echo built"},
 "review": {"agent": "testing", "needs": ["build"], "run": "echo reviewed"}}}
EOF
manage.py fleet_mission run mission.json > /dev/null
"""
# The pages whose commands are run. These must not affect anything outside this fleet and its folder.
PAGE_SETUPS = {
    "README.md": PageSetup(before=f"cat > plan.yaml <<'END_OF_PLAN'\n{pages.first_plan('README.md')}END_OF_PLAN"),
    "deploy/README.md": PageSetup(before="mkdir deploy"),
    "docs/access.md": PageSetup(replace={"flk_3f9a1c02": "$(manage.py fleet_key list --json | pick 0 id)"}),
    "docs/api.md": PageSetup(
        before=f"{SITE}\n{PASSWORD_OF_ADMIN}\n{MISSION}\nLATEST=$(manage.py fleet_mission show latest --json | pick id)",
        replace={
            "http://127.0.0.1:8000": "$SITE",
            '\'{"username": "admin", "password": "…"}\'': '"{\\"username\\": \\"admin\\", \\"password\\": \\"$ADMIN\\"}"',
            "msn_…": "$LATEST",
        },
    ),
    "docs/audit-trail.md": PageSetup(replace={"1234:5c1f…": "$(manage.py fleet_audit head | cut -d' ' -f1)"}),
    "docs/backup.md": PageSetup(before=MISSION),
    "docs/checkpoints.md": PageSetup(before=MISSION),
    "docs/commands.md": PageSetup(before="set +u"),  # the code of argcomplete reads variables that are not set
    "docs/drivers.md": PageSetup(),
    "docs/metrics.md": PageSetup(before=SITE, replace={"http://127.0.0.1:8000": "$SITE"}),
    "docs/schedules.md": PageSetup(),
    "docs/workspaces.md": PageSetup(),
    "docs/tutorial.md": PageSetup(),
    "docs/howto/agent-types.md": PageSetup(),
    "docs/howto/checkpoints.md": PageSetup(),
    "docs/howto/external-agents.md": PageSetup(),
    "docs/howto/limits.md": PageSetup(),
    "docs/howto/retries.md": PageSetup(),
    "docs/howto/secrets.md": PageSetup(),
    "docs/howto/users.md": PageSetup(),
    "docs/howto/waiting.md": PageSetup(),
    "docs/howto/workspaces.md": PageSetup(),
    "docs/agents.md": PageSetup(  # last, because it ends agents
        before="manage.py fleet_agents type set documentation --prompt-argv '[\"cat\"]'\n"
        "AGENT=$(manage.py fleet_agents list --json | pick 0 id)",
        replace={"agt_01j…": "$AGENT"},
    ),
}


@pytest.fixture(scope="module")
def pages_fleet() -> Iterator[Fleet]:
    with running() as started:
        yield started


@pytest.fixture
def shell(pages_fleet: Fleet) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder as a reader would have it, and the environment of a shell with `fleet` and `manage.py` on its PATH."""
    with tempfile.TemporaryDirectory(prefix="fleet-pages-") as temporary:
        root = Path(temporary).resolve()
        folder, programs = root / "work", root / "bin"
        for path in (folder, programs, root / "home"):
            path.mkdir()
        assert pages_fleet.warm_process is not None
        for program in ("fleet", "manage.py"):
            pages_fleet.warm_process.write_program(programs / program)
        (folder / ".fleet").symlink_to(pages_fleet.env["FLEET_HOME"])
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("examples", "manage.py"):
            (folder / name).symlink_to(CHECKOUT / name)
        for arguments in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
            identity = ["-c", "user.name=A reader", "-c", "user.email=reader@example.org"]
            subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)
        search_path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield folder, {**pages_fleet.env, "HOME": str(root / "home"), "PATH": search_path}


def script(blocks: list[pages.Block], setup: PageSetup) -> str:
    """The commands of a page as one script, which names the block that fails."""
    lines = ["set -eEuo pipefail", ON_FAILURE, "AT=start", PICK, setup.before]
    for block in blocks:
        commands = block.commands
        for placeholder, value in setup.replace.items():
            commands = commands.replace(placeholder, value)
        lines += [f"AT={block}", f'echo "=== {block}" >&2']
        if block.place:
            lines.append(in_a_sortie(commands, workspace=block.place.endswith("workspace")))
        elif block.exit_code:
            wrong = f'echo "The commands at $AT ended with $code, not {block.exit_code}." >&2; exit 1'
            lines += ["set +eE; trap - ERR", f"{commands}code=$?"]
            lines += [f"test $code = {block.exit_code} || {{ {wrong}; }}", f"set -eE; {ON_FAILURE}"]
        else:
            lines.append(commands)
    return "\n".join(lines) + "\n"


def in_a_sortie(commands: str, *, workspace: bool) -> str:
    """Shell code that runs the commands as the work of a sortie called api. With a workspace, it adds a file."""
    new_file = "echo 'API = 1' > api.py\n" if workspace else ""
    sorties = {"api": {"agent": "backend", "run": ["bash", "-euo", "pipefail", "-c", commands + new_file]}}
    plan = {"mission": "A mission", "sorties": sorties, **({"workspace": {"repository": "."}} if workspace else {})}
    launch = "manage.py fleet_mission run block.json || { manage.py fleet_mission logs latest api; exit 1; }"
    return f"cat > block.json <<'END_OF_BLOCK'\n{json.dumps(plan)}\nEND_OF_BLOCK\n{launch}"


ON_FAILURE = """trap 'echo "The commands at $AT failed." >&2' ERR"""


@pytest.mark.parametrize("page", PAGE_SETUPS)
def test_the_commands_of_a_page_work_one_after_the_other(page: str, shell: tuple[Path, dict[str, str]]) -> None:
    folder, env = shell
    blocks = [block for block in pages.blocks(page) if not block.reason]
    assert blocks, "the page has no commands that are run"
    result = subprocess.run(
        ["bash", "-c", script(blocks, PAGE_SETUPS[page])],
        cwd=folder, env=env, input=f"{PASSWORD}\n", capture_output=True, text=True, timeout=840, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{result.stdout[-4_000:]}\n{result.stderr[-6_000:]}"


def test_every_command_is_run_or_says_why_not() -> None:
    unknown = [str(block) for block in pages.all_blocks() if not block.reason and block.page not in PAGE_SETUPS]
    assert unknown == [], "add the page to PAGE_SETUPS, or `<!-- not run: REASON -->` above the block"


def test_commands_are_in_blocks_of_their_language() -> None:
    found = {page: lines for page in docs.pages(CHECKOUT) if (lines := pages.unlabelled_commands(page))}
    assert found == {}, "write ```sh above the block, so that it is run"


def test_a_failing_command_of_a_block_is_found() -> None:
    def run(commands: str, exit_code: int) -> subprocess.CompletedProcess[str]:
        block = pages.Block(page="x.md", line=3, commands=commands, reason="", exit_code=exit_code)
        return subprocess.run(["bash", "-c", script([block], PageSetup())], capture_output=True, text=True, check=False)

    assert run("true\n", 0).returncode == 0
    result = run("false\ntrue\n", 0)
    assert result.returncode == 1
    assert "The commands at x.md:3 failed." in result.stderr
    assert run("false\n", 1).returncode == 0
    assert "ended with 0, not 1" in run("true\n", 1).stderr

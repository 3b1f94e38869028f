"""Warnings about a valid plan: data that a shell, or a variable that programs obey, turns into code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from missions.plan import templates
from missions.plan.faults import Advice
from missions.plan.specs import Plan, SortieSpec

MOST = 100  # warnings of one plan

# Programs whose argument behind an option is code. env(1) and the like are looked through.
_SHELLS = re.compile(r"(?:\S*/)?(?:a|ba|da|k|z|fi|c|tc)?sh|(?:\S*/)?(?:python[\d.]*|perl|ruby|node|php|pwsh)")
_CODE = re.compile(r"-[A-Za-z]*[ceE]|--(?:eval|command)|-Command")
# Variables by which whoever sets them makes other programs run: what the loader, a shell, git or a language reads first.
_OBEYED = re.compile(
    r"LD_\w+|PATH|BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|IFS|BASH_FUNC_\w+|GIT_\w+|PYTHON\w+|PERL5\w+|PERLLIB|RUBY\w+"
    r"|NODE_\w+|npm_config_\w+|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|EDITOR|VISUAL|PAGER|BROWSER|SHELL|HOME|XDG_CONFIG_HOME|MAKEFLAGS"
    r"|GCONV_PATH|DYLD_\w+"
)
_OURS = frozenset({"matrix", "mission", "sortie"})  # written by the plan's author, or by the fleet


def warnings(plan: Plan) -> list[Advice]:
    """All warnings of a plan, at most MOST, in the plan's order; of a matrix once."""
    found = dict.fromkeys(warning for sortie in plan.sorties for warning in _of(sortie))
    return [*plan.warnings, *found][:MOST]


def _of(sortie: SortieSpec) -> Iterator[Advice]:
    name = sortie.name
    for key, command in (("run", sortie.run), ("verify", sortie.verify)):
        if isinstance(command, tuple) and (given := _into_code(command)):
            yield Advice(
                where=f"sorties.{name}.{key}",
                text=f"{given} becomes part of code that {command[0][:40]} runs: whoever gives it can run anything.",
                fix='Hand it over as an argument behind the code and read it as "$1", or put it in env: and read "$NAME".',
            )
    for variable, value in sortie.env.items():
        if _OBEYED.fullmatch(variable) and (given := _foreign(value)):
            yield Advice(
                where=f"sorties.{name}.env.{variable}",
                text=f"{given} sets {variable}, by which programs choose what they run.",
                fix="Write the value out, or use another variable.",
            )


def _into_code(command: Sequence[str]) -> str:
    """The first reference to data of others that stands in the code of a shell's -c."""
    shell = awaited = False
    for word in command:
        if awaited:
            return _foreign(word)
        if shell and _CODE.fullmatch(word):
            awaited = True
        elif not shell and _SHELLS.fullmatch(word):
            shell = True
    return ""


def _foreign(text: str) -> str:
    for reference in templates.references(text):
        if reference.root not in _OURS:
            return f"{{{{ {reference} }}}}"
    return ""

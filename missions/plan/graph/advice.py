"""Warnings about a valid plan, mainly about data that becomes code in a shell or in a controlling variable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from missions.plan import templates
from missions.plan.graph.prediction import PredictedConflict, predict
from missions.plan.problems import Advice
from missions.plan.specs import Plan, SortieSpec

MAX_WARNINGS = 100  # of one plan

# Programs that run the argument of an option as code. They may follow a wrapper such as env(1).
_SHELLS = re.compile(r"(?:\S*/)?(?:a|ba|da|k|z|fi|c|tc)?sh|(?:\S*/)?(?:python[\d.]*|perl|ruby|node|php|pwsh)")
_CODE = re.compile(r"-[A-Za-z]*[ceE]|--(?:eval|command)|-Command")
# Variables that make the loader, a shell, git or a language runtime start other code.
_CONTROLLING = re.compile(
    r"LD_\w+|PATH|BASH_ENV|ENV|SHELLOPTS|BASHOPTS|PS4|PROMPT_COMMAND|IFS|BASH_FUNC_\w+|GIT_\w+|PYTHON\w+|PERL5\w+|PERLLIB|RUBY\w+"
    r"|NODE_\w+|npm_config_\w+|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|EDITOR|VISUAL|PAGER|BROWSER|SHELL|HOME|XDG_CONFIG_HOME|MAKEFLAGS"
    r"|GCONV_PATH|DYLD_\w+"
)
_TRUSTED = frozenset({"matrix", "mission", "sortie"})  # values by the plan's author or by the fleet


def warnings(plan: Plan) -> list[Advice]:
    """All warnings of a plan, at most MAX_WARNINGS, in the plan's order, and once for each matrix."""
    unique = dict.fromkeys(warning for sortie in plan.sorties for warning in _warnings_of_sortie(sortie))
    return [*plan.warnings, *unique, *dict.fromkeys(map(_advice_on, predict(plan.sorties)))][:MAX_WARNINGS]


def _advice_on(conflict: PredictedConflict) -> Advice:
    first, second = conflict.first, conflict.second
    key = "touches" if conflict.pattern in second.touches else "reads"
    return Advice(
        where=f"sorties.{second.name}.{key}",
        text=f"{first.key} and {second.key} both reserve {conflict.pattern}, and neither needs the other.",
        fix=f"They will run one after the other. If the order matters, add {first.name} to the needs of {second.name}.",
    )


def _warnings_of_sortie(sortie: SortieSpec) -> Iterator[Advice]:
    name = sortie.name
    for key, command in (("run", sortie.run), ("verify", sortie.verify)):
        if isinstance(command, tuple) and (reference := _reference_in_code(command)):
            yield Advice(
                where=f"sorties.{name}.{key}",
                text=f"{reference} becomes part of code that {command[0][:40]} runs: its source can run anything.",
                fix='Pass it as an argument after the code and read it as "$1", or put it in env: and read "$NAME".',
            )
    for variable, value in sortie.env.items():
        if _CONTROLLING.fullmatch(variable) and (reference := _untrusted_reference(value)):
            yield Advice(
                where=f"sorties.{name}.env.{variable}",
                text=f"{reference} sets {variable}, which controls what programs run.",
                fix="Write the value out, or use another variable.",
            )


def _reference_in_code(command: Sequence[str]) -> str:
    """The first reference to untrusted data in the code that follows an option such as -c; "" if there is none."""
    after_shell = after_option = False
    for word in command:
        if after_option:
            return _untrusted_reference(word)
        if after_shell and _CODE.fullmatch(word):
            after_option = True
        elif not after_shell and _SHELLS.fullmatch(word):
            after_shell = True
    return ""


def _untrusted_reference(text: str) -> str:
    for reference in templates.references(text):
        if reference.root not in _TRUSTED:
            return f"{{{{ {reference} }}}}"
    return ""

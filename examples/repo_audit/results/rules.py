"""The rules of `rules.yaml`, by their id."""

from __future__ import annotations

from pathlib import Path

import yaml

from examples.repo_audit.results.findings import Rule

_RULES = {
    name: Rule(id=name, **fields)
    for name, fields in yaml.load(Path(__file__).with_name("rules.yaml").read_bytes(), Loader=yaml.CSafeLoader).items()
}


def get(name: str) -> Rule:
    return _RULES[name]


def for_code(tool: str, code: str) -> Rule | None:
    """The rule for a tool's code: the one whose id is its longest prefix."""
    full_code = f"{tool}:{code}"
    prefixes = (name for name in _RULES if name.partition(":")[0] == tool and full_code.startswith(name))
    return _RULES.get(max(prefixes, key=len, default=""))


def codes(tool: str) -> list[str]:
    """The codes of a tool that have a rule."""
    return [name.partition(":")[2] for name in _RULES if name.partition(":")[0] == tool]

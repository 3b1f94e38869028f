"""Plans with a workspace: what they may contain, and what is refused with its line."""

from __future__ import annotations

import pytest

from missions.plan import Plan, PlanContext, PlanError, WorkspaceSpec, load

CONTEXT = PlanContext(types=None, callables=(), drivers=("command",), max_sorties=100, max_bytes=100_000, max_added=100)


def read(workspace: str, sortie: str = "{agent: backend, run: x}") -> Plan:
    text = f"mission: A test\ninputs: {{name: {{}}}}\nworkspace: {workspace}\nsorties:\n  one: {sortie}\n"
    return load(text=text, context=CONTEXT)


def test_an_empty_workspace_is_the_folder_of_the_mission() -> None:
    assert read("{}").workspace == WorkspaceSpec()


def test_all_keys_are_read() -> None:
    plan = read(
        '{repository: "{{ inputs.name }}", base: v1.2, branch: fleet/x, setup: npm ci, verify: [make, test],'
        " conflicts: manual, reworks: 0}",
        "{agent: backend, run: x, touches: [src/**], reads: [docs/*.md], changes: required}",
    )
    assert plan.workspace == WorkspaceSpec(
        repository="{{ inputs.name }}",
        base="v1.2",
        branch="fleet/x",
        setup="npm ci",
        verify=("make", "test"),
        conflicts="manual",
        reworks=0,
    )
    (spec,) = plan.sorties
    assert (spec.touches, spec.reads, spec.changes) == (("src/**",), ("docs/*.md",), "required")


def test_a_prompt_must_change_something_but_a_command_need_not() -> None:
    assert read("{}").sorties[0].changes == "optional"
    assert read("{}", "{agent: backend, prompt: x}").sorties[0].changes == "required"


PROBLEMS = {
    "an option instead of a base": ("{base: --upload-pack=x}", "", "is not a valid branch"),
    "a base from the reflog of a copy": ("{base: 'HEAD@{1}'}", "", "is not a valid branch"),
    "a base that is set up in one copy only": ("{base: '@{upstream}'}", "", "is not a valid branch"),
    "a branch with a space": ("{branch: 'a b'}", "", "is not a valid name for a branch"),
    "a branch that git refuses": ("{branch: a..b}", "", "is not a valid name for a branch"),
    "a branch named HEAD": ("{branch: HEAD}", "", "is not a valid name for a branch"),
    "the full name of a branch": ("{branch: refs/heads/a}", "", "is not a valid name for a branch"),
    "a branch that is a lock": ("{branch: a.lock}", "", "is not a valid name for a branch"),
    "an input in a shell command": ("{verify: 'echo {{ inputs.name }}'}", "", "would become part of a shell command"),
    "an unknown input": ("{repository: '{{ inputs.nme }}'}", "", "is not an input"),
    "an input in a branch": ("{branch: '{{inputs.name}}'}", "", "Templates cannot be used here"),
    "an unknown way to resolve conflicts": ("{conflicts: ignore}", "", "is not an allowed value"),
    "an absolute cwd": ("{}", "{agent: backend, run: x, cwd: /tmp}", "is not in the sortie's copy"),
    "a cwd above the copy": ("{}", "{agent: backend, run: x, cwd: src/../../other}", "is not in the sortie's copy"),
    "an absolute pattern": ("{}", "{agent: backend, run: x, touches: [/etc/*]}", "is not relative to the repository"),
    "a pattern that leaves the repository": ("{}", "{agent: backend, run: x, touches: [a/../../b]}", "leaves the repo"),
    "a pattern of git's own files": ("{}", "{agent: backend, run: x, touches: [.git/config]}", "git's own files"),
    "a pattern with an empty part": ("{}", "{agent: backend, run: x, reads: [a//b]}", "has an empty part"),
    "a pattern that excludes files": ("{}", "{agent: backend, run: x, touches: ['!a']}", "excludes files"),
    "touches without a copy": ("{}", "{agent: backend, run: x, workspace: false, touches: [a]}", "has no copy"),
}


@pytest.mark.parametrize("workspace, sortie, words", PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_reported_with_its_line(workspace: str, sortie: str, words: str) -> None:
    with pytest.raises(PlanError) as excinfo:
        read(workspace, sortie or "{agent: backend, run: x}")
    assert any(words in problem.message and problem.line for problem in excinfo.value.problems), str(excinfo.value)


def test_patterns_of_a_matrix_are_filled_in() -> None:
    plan = read("{}", "{agent: backend, run: x, matrix: {part: [api, web]}, touches: ['{{ matrix.part }}/**']}")
    assert [spec.touches for spec in plan.sorties] == [("api/**",), ("web/**",)]


def test_a_folder_may_end_with_a_slash() -> None:
    (spec,) = read("{}", "{agent: backend, run: x, touches: [src/api/]}").sorties
    assert spec.touches == ("src/api/",)

"""What each tool finds in small files, and what it rightly ignores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from examples.repo_audit.checks import documentation, frontend, history, hotspots, secrets, security, upkeep
from examples.repo_audit.repository import languages, tree
from examples.repo_audit.results.findings import Ledger
from tests.examples import audit_runs

AWS = "AKIA" + "QYLPMN5HHHFPZAM2"
GITHUB = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"
SLACK = "xox" + "b-34532454-e039d02840a0b9379c"
WORD = "h7Gq2" + "pLx9vTz"
PEM = "-----BEGIN RSA PRIVATE " + "KEY-----\n" + ("MIIEpAIBAAKCAQEA" * 4 + "\n") * 4


def file(path: str) -> tree.File:
    return tree.File(path=path, disk=Path(path), size=1, blob="", role=tree.role(path), language=languages.detect(path))


def findings_by_rule(run: audit_runs.AuditRun, key: str) -> dict[str, list[tuple[str, int]]]:
    """Map each rule to the files and lines where the sortie `key` found problems."""
    places: dict[str, list[tuple[str, int]]] = {}
    for finding in run.results[key]["findings"]:
        places.setdefault(finding["rule"], []).append((finding["file"], finding["line"]))
    return places


def audit(tmp_path: Path, files: dict[str, Any]) -> audit_runs.AuditRun:
    return audit_runs.run_audit(audit_runs.repository(tmp_path / "repository", files), tmp_path / "out")


@pytest.mark.parametrize(
    ("path", "line", "rule"),
    [
        ("a.py", f'KEY = "{AWS}"', "secrets:token"),
        ("a.yml", f"token: {GITHUB}", "secrets:token"),
        ("a.sh", f"export HOOK={SLACK}", "secrets:token"),
        ("id_rsa", PEM, "secrets:private-key"),
        ("settings.py", f'PASSWORD = "{WORD}"', "secrets:password"),
        ("deploy.sh", f"curl https://admin:{WORD}@api.shop.com/v1", "secrets:url"),
    ],
)
def test_secrets_are_found(path: str, line: str, rule: str) -> None:
    assert [hit.rule.id for hit in secrets.hits(path, line)] == [rule]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", 'password = os.environ["PASSWORD"]'),
        ("a.py", 'PASSWORD = "changeme123"'),
        ("a.py", 'token = get_token("user1234")'),
        ("a.py", 'secret_name = "my-service-secret"'),
        ("a.py", "password = form.cleaned_data['password1']"),
        ("a.yml", "password: ${DB_PASSWORD}"),
        ("a.yml", "password: {{ vault_password1 }}"),
        ("a.py", 'url = "postgres://postgres:postgres1@localhost:5432/x"'),
        ("a.md", "https://user:password@example.com/"),
        ("a.py", 'KEY = "AKIA' + 'IOSFODNN7EXAMPLE"'),
        ("a.py", 'PATTERN = "-----BEGIN RSA PRIVATE ' + 'KEY-----"'),
        ("a.py", f'KEY = "{AWS}"  # pragma: allowlist secret'),
        ("a.py", 'id = "123e4567-e89b-12d3-a456-426614174000"'),
    ],
)
def test_text_that_only_looks_like_a_secret_is_ignored(path: str, line: str) -> None:
    assert list(secrets.hits(path, line)) == []


def test_ruff_and_vulture_find_likely_bugs_but_not_style_issues(tmp_path: Path) -> None:
    files = {
        "a.py": "import os\n\n\ndef f(x, y=[]):\n    try:\n        return missing\n    except:\n        pass\n",
        "b.py": "def g():\n    return 1\n    print(2)\n\n\ndef _never():\n    pass\n\n\n@print\ndef _hook():\n    pass\n",
        "style.py": "X=1;y = lambda:2\nl = {'a':1}\n",
        "__init__.py": "from a import f\n",
        "templates/x.py": "class {{ name }}:\n    pass\n",
        "tests/test_a.py": "import os\n\n\ndef test_x():\n    assert 1\n\n\ndef test_x():\n    assert 2\n",
    }
    places = findings_by_rule(audit(tmp_path, files), "python")
    assert places["ruff:F821"] == [("a.py", 6)]
    assert places["ruff:B006"] == [("a.py", 4)]
    assert places["ruff:F401"] == [("a.py", 1)]
    assert places["vulture:unreachable"] == [("b.py", 3)]
    assert places["vulture:private-unused"] == [("b.py", 6)]
    assert places["ruff:F811"] == [("tests/test_a.py", 8)]
    assert "ruff:invalid-syntax" not in places
    assert not [place for where in places.values() for place in where if place[0] == "style.py"]


def test_python_that_only_cpython_rejects_counts_as_unparsable(tmp_path: Path) -> None:
    files = {
        "deep.py": "x = 1\ny = " + "(((((\n" * 1_000 + "1" + ")))))\n" * 1_000,
        "far.py": "".join(f"{' ' * depth}if x:\n" for depth in range(150)) + " " * 150 + "pass\n",
        "fine.py": f"y = {'(' * 50}1{')' * 50}\n",
    }
    places = findings_by_rule(audit(tmp_path, files), "python")["ruff:invalid-syntax"]
    assert sorted(places) == [("deep.py", 42), ("far.py", 101)]


def test_bandit_checks_the_product_and_not_its_tests(tmp_path: Path) -> None:
    imports = "import subprocess\nimport yaml\n\n\n"
    text = imports + "def f(x):\n    assert x\n    yaml.load(x)\n    subprocess.run(x, shell=True)\n"
    places = findings_by_rule(audit(tmp_path, {"a.py": text, "tests/test_a.py": text}), "secrets[part=1]")
    assert places == {"bandit:B506": [("a.py", 7)], "bandit:B602-values": [("a.py", 8)]}


def test_a_literal_command_is_no_finding_and_an_uncertain_one_weighs_less() -> None:
    assert security.from_bandit("B602", "LOW", "HIGH") is None
    sure, unsure = security.from_bandit("B608", "MEDIUM", "HIGH"), security.from_bandit("B608", "MEDIUM", "LOW")
    assert sure is not None
    assert unsure is not None
    assert sure[0] == unsure[0]
    assert sure[1] > unsure[1]


def test_hidden_characters_are_found(tmp_path: Path) -> None:
    places = findings_by_rule(audit(tmp_path, {"a.py": "x = 1\n# \u202e hidden\n"}), "secrets[part=1]")
    assert places == {"text:bidirectional": [("a.py", 2)]}


@pytest.mark.parametrize(
    ("name", "begin", "branch"),
    [
        ("a.py", "def f(x):\n", "    if x == {}: pass\n"),
        ("a.js", "function f(x) {\n", "  if (x == {}) y();\n"),
        ("a.go", "func f(x int) {\n", "  if x == {} { y() }\n"),
        ("a.rs", "fn f(x: i32) {\n", "  if x == {} { y(); }\n"),
        ("A.java", "class A { void f(int x) {\n", "  if (x == {}) y();\n"),
    ],
)
def test_branches_are_counted_in_many_languages(tmp_path: Path, name: str, begin: str, branch: str) -> None:
    end = "}}\n" if name.endswith("java") else "" if name.endswith("py") else "}\n"
    text = begin + "".join(branch.replace("{}", str(number), 1) for number in range(35)) + end
    run = audit(tmp_path, {name: text})
    (key,) = [key for key in run.order if key.startswith("complexity")]
    assert findings_by_rule(run, key) == {"lizard:very-branched": [(name, 1)]}


def test_files_with_many_changes_and_branches_are_named() -> None:
    calm = {f"calm{n}.py": [10, 2, 50, 5] for n in range(30)}
    ledger = Ledger()
    files = {"hot.py": [200, 40, 900, 30], "still.py": [300, 40, 900, 30], **calm}
    branches = {"hot.py": [90, 2_000], "calm1.py": [95, 100]}
    outcome = {**ledger.outcome(), "figures": {"files": files, "spread": {}, "languages": ["Python"]}}
    context: Any = type(
        "C", (), {"needs": {"history": {"figures": {"files": branches}}, "complexity": [outcome, None]}}
    )
    crossed = hotspots.find(context)
    assert [finding["file"] for finding in crossed["findings"]] == ["hot.py"]
    assert crossed["figures"]["points"][0]["file"] == "hot.py"  # type: ignore[index]


def test_changes_are_followed_through_renames(tmp_path: Path) -> None:
    body = "".join(f"line {n}\n" for n in range(30))
    place = audit_runs.repository(tmp_path / "r", {"old.py": body, "other.py": "x\n"})
    for number in range(3):
        (place / "old.py").write_text(body + f"more {number}\n")
        audit_runs.git(place, "commit", "-qam", "Change")
    audit_runs.git(place, "mv", "old.py", "new name.py")
    audit_runs.git(place, "commit", "-qm", "Rename")
    changes = history.changes_of(place)
    assert changes.commits == {"new name.py": 5, "other.py": 1}
    weeks, commits, people = history.activity(place)
    assert (sum(weeks), commits, people) == (5, 5, [{"name": "Ada", "commits": 5}])
    assert history.heat(dict(changes.commits)) == {"new name.py": 1.0}


def test_pages_are_checked_for_accessibility() -> None:
    text = """<html><head></head><body>
<img src=a.png>
<img src=b.png alt="">
<input name=q>
<label for=r>R</label><input id=r>
<label>S <input></label>
<input type=hidden>
<button></button><button>Go</button>
<p id=x></p><p id=x></p>
<h1>a</h1><h3>b</h3>
<script src="http://cdn.io/x.js"></script>
<script src="https://cdn.io/y.js"></script>
<iframe src=z></iframe>
</body></html>"""
    ledger = Ledger()
    frontend.page(file("web/a.html"), text, ledger)
    lines = {finding["rule"]: finding["line"] for finding in ledger.outcome()["findings"]}
    assert lines == {
        "html:lang": 1, "html:title": 1, "html:img-alt": 2, "html:label": 4, "html:button": 8, "html:duplicate-id": 9,
        "html:headings": 10, "html:http": 11, "html:integrity": 12, "html:frame-title": 13,
    }  # fmt: skip


def test_values_filled_in_by_a_template_are_no_findings() -> None:
    text = """{% extends "base.html" %}
<img src="{{ x }}" {{ attributes }}>
{% if a %}<p id=x></p>{% else %}<p id=x></p>{% endif %}
<input {{ field.attributes }}>
<img src="{{ y }}">"""
    ledger = Ledger()
    frontend.page(file("templates/a.html"), text, ledger)
    assert [(finding["rule"], finding["line"]) for finding in ledger.outcome()["findings"]] == [("html:img-alt", 5)]


def test_style_sheets_are_parsed_and_old_hacks_ignored() -> None:
    ledger = Ledger()
    frontend.style_sheet(file("a.css"), "a { color red; }\nb { *zoom: 1 }\nc:focus { outline: none }\n", ledger)
    found_at = [(finding["rule"], finding["line"]) for finding in ledger.outcome()["findings"]]
    assert found_at == [("css:parse-error", 1), ("css:outline", 3)]


def test_links_images_and_anchors_of_markdown_are_followed_within_the_repository(tmp_path: Path) -> None:
    text = """# A *title*, really
[ok](docs/b.md) [ok](docs/b.md#part-two) [ok](#a-title-really) [ok](/docs/b.md) [ok](https://x.io/y) [ok](docs)
[gone](docs/c.md) ![gone](x.png) [no heading](docs/b.md#part-three) [case](DOCS/b.md)
`[not](a-link.md)` [issues](../../issues) <a href="docs/d.md">gone</a>

```
[not](a-link.md)
```
"""
    files = {"README.md": text, "docs/b.md": "# B\n\n## Part two\n\n[up](../README.md)\n"}
    places = findings_by_rule(audit(tmp_path, files), "prose")
    assert places["docs:broken-link"] == [("README.md", 3), ("README.md", 4)]
    assert places["docs:broken-image"] == [("README.md", 3)]
    assert places["docs:broken-anchor"] == [("README.md", 3)]
    assert places["docs:case"] == [("README.md", 3)]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Hello World", "hello-world"),
        ("What's `new`?", "whats-new"),
        ("Ça va — bien", "ça-va--bien"),
        ("a_b-c", "a_b-c"),
    ],
)
def test_anchors_are_made_as_github_makes_them(title: str, slug: str) -> None:
    assert documentation.slug_of(title.replace("`", "")) == slug


def test_unreliable_tests_are_named(tmp_path: Path) -> None:
    files = {
        "app.py": "x = 1\n" * 200,
        "tests/test_a.py": (
            "import time\nimport pytest\n\n\ndef test_nothing():\n    len([])\n\n\n@pytest.mark.skip\ndef test_off():\n"
            "    assert 0\n\n\ndef test_slow():\n    time.sleep(5)\n    assert 1\n\n\n"
            "def test_call(check):\n    check()\n"
        ),
        "web/a.test.js": "describe.only('a', () => {\n  it.skip('b', () => {})\n})\n",
        "web/a.js": "export const a = 1\n",
    }
    places = findings_by_rule(audit(tmp_path, files), "tests")
    assert places == {
        "tests:no-assertion": [("tests/test_a.py", 5)],
        "tests:skipped": [("tests/test_a.py", 10), ("web/a.test.js", 2)],
        "tests:sleep": [("tests/test_a.py", 15)],
        "tests:focused": [("web/a.test.js", 1)],
    }


def test_a_test_that_calls_an_asserting_helper_is_reliable(tmp_path: Path) -> None:
    files = {
        "app.py": "x = 1\n" * 200,
        "tests/support/waits.py": (
            "def until(true):\n    assert true()\n\n\ndef soon(true):\n    until(true)\n\n\ndef call(it):\n    it()\n"
        ),
        "tests/test_a.py": (
            "from tests.support import waits\n\n\ndef test_directly():\n    waits.until(len)\n\n\n"
            "def test_one_call_deeper():\n    waits.soon(len)\n\n\ndef test_nothing():\n    waits.call(len)\n"
        ),
    }
    assert findings_by_rule(audit(tmp_path, files), "tests") == {"tests:no-assertion": [("tests/test_a.py", 12)]}


def test_workflows_and_containers_are_checked() -> None:
    ledger = Ledger()
    text = """on: pull_request_target
jobs:
  a:
    steps:
      - uses: actions/checkout@v4
        with: {ref: "${{ github.event.pull_request.head.sha }}"}
      - uses: some/action@main
      - run: echo "${{ github.event.pull_request.title }}"
      - run: echo "$TITLE"
        env: {TITLE: "${{ github.event.pull_request.title }}"}
"""
    upkeep.workflow(file(".github/workflows/a.yml"), text, ledger)
    upkeep.dockerfile(file("Dockerfile"), "FROM python AS a\nFROM a\nRUN curl https://x.io/i | sh\n", ledger)
    assert [(finding["rule"], finding["line"]) for finding in ledger.outcome()["findings"]] == [
        ("upkeep:ci-branch", 7),
        ("upkeep:ci-injection", 8),
        ("upkeep:ci-target", 6),
        ("upkeep:docker-latest", 1),
        ("upkeep:curl-pipe", 3),
        ("upkeep:docker-root", 0),
    ]


def test_the_upkeep_of_the_repository_is_checked(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.py": "# TODO: mend\nx = 'TODO list'\n",
        "b.py": "<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n",
        "c.json": '{"a": 1,, }',
        "d.yml": "a: [1\nb: 2\n",
        "e.toml": "a = \n",
        "x.pyc": b"\0",
        "Name.py": "n = 1\n",
        "name.py": "n = 2\n",
        "f.py": "v = 3\n" * 600,
        "g.py": "v = 3\n" * 600,
    }
    places = findings_by_rule(audit(tmp_path, files), "upkeep")
    assert places["upkeep:todo"] == [("a.py", 1)]
    assert places["upkeep:conflict"] == [("b.py", 1)]
    assert {path for path, _line in places["upkeep:does-not-parse"]} == {"d.yml", "e.toml"}
    assert places["upkeep:artefact"] == [("x.pyc", 0)]
    assert places["upkeep:case-collision"] == [("name.py", 0)]
    assert places["upkeep:duplicate"] == [("f.py", 0)]


def test_the_age_of_todo_comments_is_reported(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "r", {"a.py": "# TODO: mend\n"}, commit=False)
    audit_runs.git(place, "-c", "user.name=A", "commit", "-q", "-m", "x", "--date=2015-01-01T00:00:00Z")
    run = audit_runs.run_audit(place, tmp_path / "out")
    (finding,) = [item for item in run.results["upkeep"]["findings"] if item["file"] == "a.py"]
    assert finding["rule"] == "upkeep:old-todo"
    assert "years old" in finding["detail"]


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("src/app.py", "product"),
        ("tests/test_app.py", "test"),
        ("app_test.go", "test"),
        ("src/a.spec.ts", "test"),
        ("docs/a.md", "docs"),
        ("README.md", "docs"),
        ("examples/a.py", "example"),
        ("src/latest/contest.py", "product"),
    ],
)
def test_a_file_is_judged_by_its_purpose(path: str, role: str) -> None:
    assert tree.role(path) == role


def test_generated_and_vendored_files_are_skipped_and_counted(tmp_path: Path) -> None:
    files = {
        "vendor/x.py": "print(undefined)\n",
        "a.min.js": "x",
        "gen.py": "# Code generated by protoc. DO NOT EDIT.\nprint(undefined)\n",
        "marked.py": "print(undefined)\n",
        ".gitattributes": "marked.py linguist-generated=true\n",
        "ours.py": "x = 1\n",
    }
    run = audit(tmp_path, files)
    assert run.results["python"]["findings"] == []
    skipped = run.results["inventory"]["skipped"]
    assert skipped["vendored"] == 2
    assert skipped["generated, minified or a lock file"] == 1
    assert skipped["binary, unreadable or generated"] == 1

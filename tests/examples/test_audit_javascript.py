"""The audit finds obvious problems in JavaScript and TypeScript, ignores safe code, and reports what it did not check."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.repo_audit.checks import javascript
from tests.examples import audit_runs


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("eval(req.body.code);", "js:eval-request"),
        ("const f = new Function('a', request.query.f);", "js:eval-request"),
        ("eval(text);", "js:eval"),
        ("setTimeout(`tick(${name})`, 10);", "js:eval"),
        ('db.query("SELECT * FROM users WHERE id = " + req.params.id);', "js:sql-request"),
        ("db.query(`DELETE FROM users WHERE name = '${name}'`);", "js:sql"),
        ('const q = "UPDATE t SET a = \'" + a + "\' WHERE b = 1";', "js:sql"),
        ("exec('ls ' + req.query.dir);", "js:shell-request"),
        ("child_process.execSync(`git clone ${url}`);", "js:shell"),
        ("require('child_process').exec(`ls ${req.query.dir}`);", "js:shell-request"),
        ('require("node:child_process").execSync("ls " + folder);', "js:shell"),
        ("element.innerHTML = text;", "js:html"),
        ("res.send('<b>' + req.query.name + '</b>');", "js:html"),
        ("response.end(`<p>${request.body.text}</p>`);", "js:html"),
        ("document.write(location.hash);", "js:html"),
    ],
)
def test_obvious_problems_are_found(line: str, rule: str) -> None:
    found = javascript.check("a.js", f"// first\n{line}\n")
    assert [(item.id, number) for item, number in found] == [(rule, 2)]


@pytest.mark.parametrize(
    "line",
    [
        "db.query('SELECT * FROM users WHERE id = $1', [req.params.id]);",
        "db.query('SELECT * FROM users ' + 'WHERE id = $1', [id]);",
        "await sql`SELECT * FROM users WHERE id = ${id}`;",
        "log(`Select a file from ${folder}`.length > 3 ? 1 : 2);",
        "setTimeout(() => tick(name), 10);",
        "execFile('git', ['clone', url]);",
        "element.innerHTML = '';",
        "res.send('<b>' + escaped(req.query.name) + '</b>');",
        "res.send('Hello ' + req.query.name);",
        "require('child_process').execFile('ls', [req.query.dir]);",
        "element.textContent = text;",
        "new Foo(eval_result);",
    ],
)
def test_safe_code_has_no_findings(line: str) -> None:
    assert javascript.check("a.js", line) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.ts", "const x: string = req.body.x as string;\neval(x);\n"),
        ("a.tsx", "const A = () => <b>{1}</b>;\neval(A);\n"),
        ("a.jsx", "const A = () => <b>{1}</b>;\neval(A);\n"),
    ],
)
def test_typescript_and_components_are_parsed(path: str, text: str) -> None:
    assert [(rule.id, line) for rule, line in javascript.check(path, text)] == [("js:eval", 2)]


def test_invalid_or_deeply_nested_code_does_no_harm() -> None:
    assert javascript.check("a.js", "((((" * 5_000 + "eval(x") is not None
    assert javascript.check("a.js", "\ud800 = {") == []


def test_the_report_lists_javascript_that_was_not_checked(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "r", {"server.js": "app.get('/', (req) => eval(req.query.code));\n"})
    run = audit_runs.run_audit(place, tmp_path / "out")
    assert [finding["rule"] for finding in run.results["scripts"]["findings"]] == ["js:eval-request"]
    assert run.results["report"]["top"][0]["title"] == "Request data runs as JavaScript"
    assert run.results["report"]["top"][0]["file"] == "server.js"
    assert "were not checked" in run.text("report.md")
    assert "were not checked" in run.text("report.html")


@pytest.mark.parametrize("name,code", [("a.js", "let q = 'SELECT * FROM t WHERE id = ';\nq += id;\ndb.query(q);\n"),
                                       ("a.py", "q = 'SELECT * FROM t WHERE id = '\nq += x\ndb.execute(q)\n")])  # fmt: skip
def test_the_report_says_once_that_variables_are_not_followed(tmp_path: Path, name: str, code: str) -> None:
    run = audit_runs.run_audit(audit_runs.repository(tmp_path / "r", {name: code, "b.py": "x = 1\n"}), tmp_path / "out")
    assert run.text("report.md").count("Values are not followed through variables") == 1

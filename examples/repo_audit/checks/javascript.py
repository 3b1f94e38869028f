"""Finds dangerous JavaScript and TypeScript: strings that become code, SQL, a shell command or HTML.

The code is parsed with tree-sitter. The checks look at single expressions; they do not follow values through variables
and calls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import tree_sitter_javascript
import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import NOT_FOLLOWED, Ledger, Outcome, Rule

SECONDS = 120.0
LANGUAGES = ("JavaScript", "TypeScript")
NOT_RUN = (
    "JavaScript and TypeScript: likely bugs, unused code, types and dependencies were not checked. Run the project's "
    "own linter and `npm audit` for those. This audit checks for strings that become code, SQL, a command or HTML, for "
    "secrets, for complexity and for the state of the tests."
)

EVAL, EVAL_OF_REQUEST = rules.get("js:eval"), rules.get("js:eval-request")
SQL, SQL_OF_REQUEST = rules.get("js:sql"), rules.get("js:sql-request")
SHELL, SHELL_OF_REQUEST = rules.get("js:shell"), rules.get("js:shell-request")
HTML = rules.get("js:html")

_PARSERS = {
    "js": Parser(Language(tree_sitter_javascript.language())),
    "ts": Parser(Language(tree_sitter_typescript.language_typescript())),
    "tsx": Parser(Language(tree_sitter_typescript.language_tsx())),
}
_VERBS = r"SELECT\s.+\sFROM\b|INSERT\s+INTO\s|UPDATE\s.+\sSET\s|DELETE\s+FROM\s|DROP\s+TABLE\s"
_STATEMENT = re.compile(rf"^[^A-Za-z]*(?:{_VERBS}|{_VERBS.lower()})", re.DOTALL)
_REQUEST = re.compile(
    r"\b(req|request|ctx|context|event)\.(body|query|params|headers|cookies|request|url)\b|\blocation\."
)
_SHELLS = {"exec", "execSync", "child_process.exec", "child_process.execSync", "cp.exec", "cp.execSync"}
_CHILD_PROCESS = re.compile(r"^require\(['\"](?:node:)?child_process['\"]\)")
_MARKUP = {"innerHTML", "outerHTML"}
_WRITERS = {"document.write", "document.writeln"}
_RESPONSES = {f"{response}.{method}" for response in ("res", "response") for method in ("send", "write", "end")}
_LITERAL = (
    "string",
    "number",
    "null",
    "undefined",
    "true",
    "false",
    "arrow_function",
    "function_expression",
    "function",
)


@register
def scripts(context: Context) -> Outcome:
    """JavaScript and TypeScript of the product and its examples."""
    files = [file for file in tree.from_context(context).files if file.language in LANGUAGES and file.role != "test"]
    ledger = Ledger()
    deadline = time.monotonic() + SECONDS
    for number, (file, text) in enumerate(tree.texts(files)):
        if time.monotonic() > deadline:
            ledger.notes.append(f"JavaScript: {len(files) - number:,} files were skipped for lack of time.")
            break
        if number % 50 == 0:
            context.progress(number / len(files), f"{number:,} of {len(files):,} files")
        ledger.checked_count += 1
        for rule, line in check(file.path, text):
            ledger.add(rule, file=file.path, line=line, role=file.role)
    context.progress(1, f"files checked: {ledger.checked_count:,}")
    if files:
        ledger.notes += [NOT_RUN, NOT_FOLLOWED]
    return ledger.outcome()


def check(path: str, text: str) -> list[tuple[Rule, int]]:
    """The dangerous expressions of a file: rule and line of each."""
    ending = path.rpartition(".")[2]
    parser = _PARSERS["tsx" if ending == "tsx" else "ts" if ending in ("ts", "mts", "cts") else "js"]
    return [
        (rule, node.start_point.row + 1)
        for node in _walk(parser.parse(text.encode("utf-8", "replace")).root_node)
        if (rule := _check_node(node)) is not None
    ]


def _walk(root: Node) -> Iterator[Node]:
    """Every node, without recursion, because untrusted code may be nested very deeply."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.named_children))


def _check_node(node: Node) -> Rule | None:
    match node.type:
        case "call_expression" | "new_expression":
            return _check_call(node)
        case "assignment_expression" | "augmented_assignment_expression":
            target, value = node.child_by_field_name("left"), node.child_by_field_name("right")
            is_markup = (
                target is not None
                and target.type == "member_expression"
                and _text(target).rpartition(".")[2] in _MARKUP
            )
            return HTML if is_markup and value is not None and _is_dynamic(value) else None
        case "jsx_attribute" if _text(node).startswith("dangerouslySetInnerHTML"):
            return HTML
        case "template_string" | "binary_expression" if not _is_operand(node):
            if _is_dynamic(node) and _STATEMENT.search(_literals(node)) and not _is_tagged(node):
                return SQL_OF_REQUEST if _REQUEST.search(_text(node)) else SQL
    return None


def _check_call(node: Node) -> Rule | None:
    callee = node.child_by_field_name("function") or node.child_by_field_name("constructor")
    arguments = node.child_by_field_name("arguments")
    if callee is None or arguments is None or arguments.type != "arguments" or not arguments.named_children:
        return None
    name, values = _CHILD_PROCESS.sub("child_process", _text(callee)), arguments.named_children
    from_request = bool(_REQUEST.search(_text(arguments)))
    if name in ("eval", "Function", "vm.runInThisContext", "vm.runInNewContext"):
        code = values[-1] if name == "Function" else values[0]
        return (EVAL_OF_REQUEST if from_request else EVAL) if code.type not in _LITERAL else None
    if name in ("setTimeout", "setInterval"):
        return EVAL if _is_dynamic(values[0]) and values[0].type in ("template_string", "binary_expression") else None
    if name in _SHELLS and values[0].type in ("template_string", "binary_expression") and _is_dynamic(values[0]):
        return SHELL_OF_REQUEST if from_request else SHELL
    if name in _WRITERS or name.endswith(".insertAdjacentHTML"):
        return HTML if _is_dynamic(values[-1]) else None
    if name in _RESPONSES and values[0].type in ("template_string", "binary_expression"):
        return HTML if "<" in _literals(values[0]) and _contains_request(values[0]) else None
    return None


def _is_dynamic(node: Node) -> bool:
    """Whether a value is not a literal: it is built from parts or comes from elsewhere."""
    match node.type:
        case "template_string":
            return any(child.type == "template_substitution" for child in node.named_children)
        case "binary_expression":
            return any(_is_dynamic(child) for child in node.named_children)
        case "parenthesized_expression" | "sequence_expression":
            return any(_is_dynamic(child) for child in node.named_children)
    return node.type not in _LITERAL


def _contains_request(node: Node) -> bool:
    """Whether data of the request is a part of a concatenation as it is, not as an argument of a call, as in escape(x)."""
    if node.type in ("template_string", "template_substitution", "binary_expression", "parenthesized_expression"):
        return any(_contains_request(child) for child in node.named_children)
    return node.type != "call_expression" and bool(_REQUEST.search(_text(node)))


def _is_operand(node: Node) -> bool:
    """Whether it is an operand of a longer concatenation, which is checked as a whole."""
    parent = node.parent
    while parent is not None and parent.type == "parenthesized_expression":
        parent = parent.parent
    return parent is not None and parent.type == "binary_expression"


def _is_tagged(node: Node) -> bool:
    """Whether a template string has a tag, as in sql`…${value}…`, which passes the values as parameters."""
    parent = node.parent
    return parent is not None and parent.type == "call_expression" and parent.child_by_field_name("arguments") == node


def _literals(node: Node) -> str:
    """The literal parts of a concatenation, with `?` for each value."""
    pieces = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part.type in ("string_fragment", "escape_sequence"):
            pieces.append(_text(part))
        elif part.type in ("string", "template_string", "binary_expression", "parenthesized_expression"):
            waiting.extend(reversed(part.named_children))
        else:
            pieces.append("?")
    return "".join(pieces)


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")

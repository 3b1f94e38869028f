"""Checks HTML pages, components and CSS: accessibility, syntax errors, and scripts loaded from other hosts."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator

import bs4
import tinycss2
from bs4 import BeautifulSoup, Tag

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome, Rule

LARGEST = 300_000  # characters; longer files are treated as data


ALT = rules.get("html:img-alt")
LANG = rules.get("html:lang")
TITLE = rules.get("html:title")
VIEWPORT = rules.get("html:viewport")
ZOOM = rules.get("html:zoom")
LABEL = rules.get("html:label")
BUTTON = rules.get("html:button")
DUPLICATE = rules.get("html:duplicate-id")
HEADINGS = rules.get("html:headings")
INSECURE = rules.get("html:http")
INTEGRITY = rules.get("html:integrity")
FRAME = rules.get("html:frame-title")
HIDDEN_FOCUS = rules.get("css:outline")
CSS_ERROR = rules.get("css:parse-error")

_DYNAMIC = re.compile(r"\{\{|\{%|\{#|<%|\$\{|<\?|\{[a-z@]|\[\[")
_HTML = (".html", ".htm", ".xhtml", ".jinja", ".jinja2", ".j2", ".hbs", ".ejs", ".mustache", ".vue", ".svelte")
_JSX_IMAGE = re.compile(r"<img\b(?:[^>{}]|\{[^{}]*\})*>")
_NAMING = ("aria-label", "aria-labelledby", "title", "v-text", "x-text", "v-html", "id")
_BROWSER_HACK = re.compile(r"(^|[{;\s])\*[a-z-]+\s*:")
_BLOCKS = re.compile(r"\{%.*?%\}|\{#.*?#\}|<%.*?%>|<\?.*?\?>", re.S)


@register
def pages(context: Context) -> Outcome:
    """HTML, templates, JSX images and CSS of the product and its documents."""
    files = tree.from_context(context).select(roles=("product", "docs", "example"))
    ledger = Ledger()
    seen: Counter[str] = Counter()
    selected = [file for file in files if file.path.endswith((*_HTML, ".css", ".jsx", ".tsx"))]
    for number, (file, text) in enumerate(tree.texts(selected)):
        if number % 100 == 0:
            context.progress(number / len(selected), f"{number:,} of {len(selected):,} files")
        if len(text) > LARGEST:
            continue
        ledger.checked_count += 1
        if file.path.endswith(".css"):
            seen["style sheets"] += 1
            style_sheet(file, text, ledger)
        elif file.path.endswith((".jsx", ".tsx")):
            seen["components"] += 1
            component(file, text, ledger)
        else:
            seen["pages"] += 1
            page(file, text, ledger)
    ledger.figures = dict(seen)
    if not seen:
        ledger.notes.append("There are no pages, components or style sheets here, so accessibility was not checked.")
    context.progress(1, f"files checked: {ledger.checked_count:,}")
    return ledger.outcome()


def component(file: tree.File, text: str, ledger: Ledger) -> None:
    for match in _JSX_IMAGE.finditer(text):
        if not re.search(r"\balt\b|\{\.\.\.|aria-hidden|role=", match[0]):
            ledger.add(ALT, file=file.path, line=text.count("\n", 0, match.start()) + 1, role=file.role)


def page(file: tree.File, text: str, ledger: Ledger) -> None:
    """Check an HTML page or a template. Whatever a template's tags may fill in is not reported."""
    template = bool(_DYNAMIC.search(text))
    # Template blocks become blanks of the same length, so that line numbers stay the same.
    plain = _BLOCKS.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bs4.XMLParsedAsHTMLWarning)
        warnings.simplefilter("ignore", bs4.MarkupResemblesLocatorWarning)
        try:
            soup = BeautifulSoup(plain, "html.parser")
        except (bs4.ParserRejectedMarkup, RecursionError, AssertionError):
            return
    for rule, tag, detail in _problems(soup, template):
        ledger.add(rule, file=file.path, line=tag.sourceline or 0, role=file.role, detail=detail)


def _problems(soup: BeautifulSoup, template: bool) -> Iterator[tuple[Rule, Tag, str]]:
    html = soup.find("html")
    if isinstance(html, Tag):
        yield from _page_head(soup, html, template)
        yield from _skipped_headings(soup)
    yield from ((ALT, image, "") for image in soup.find_all("img") if _lacks_alternative(image))
    yield from _unlabelled_fields(soup)
    yield from ((BUTTON, tag, "") for tag in soup.find_all(["button", "a"]) if _lacks_name(tag))
    yield from _duplicate_ids(soup, template)
    yield from _loaded_resources(soup)
    for frame in soup.find_all("iframe"):
        if not any(frame.get(name) for name in ("title", "aria-label")) and frame.get("aria-hidden") != "true":
            yield FRAME, frame, ""


def _lacks_alternative(image: Tag) -> bool:
    has_alt = any(name.lstrip(":@").removeprefix("v-bind:").startswith("alt") for name in image.attrs)
    hidden = image.get("role") == "presentation" or image.get("aria-hidden") == "true" or image.get("width") == "1"
    return not (has_alt or hidden or _is_dynamic(image))


def _lacks_name(tag: Tag) -> bool:
    if (tag.name == "a" and not tag.get("href")) or tag.find(True) or _is_dynamic(tag):
        return False
    return not tag.get_text(strip=True) and not any(tag.get(name) for name in _NAMING)


def _is_dynamic(tag: Tag) -> bool:
    """Whether a template may add attributes to the tag."""
    return any("{" in name for name in tag.attrs)


def _loaded_resources(soup: BeautifulSoup) -> Iterator[tuple[Rule, Tag, str]]:
    for tag in soup.find_all("script", src=True):
        source = str(tag["src"])
        if source.startswith("http://") and "localhost" not in source:
            yield INSECURE, tag, ""
        elif re.match(r"(https:)?//", source) and not tag.get("integrity") and not _DYNAMIC.search(source):
            yield INTEGRITY, tag, ""
    for tag in soup.find_all("link", rel="stylesheet", href=re.compile(r"^http://(?!localhost)")):
        yield INSECURE, tag, ""


def _page_head(soup: BeautifulSoup, html: Tag, template: bool) -> Iterator[tuple[Rule, Tag, str]]:
    if not html.get("lang") and not html.get("xml:lang") and not any("{" in name for name in html.attrs):
        yield LANG, html, ""
    head = soup.find("head")
    if isinstance(head, Tag) and not soup.find("title") and not template:
        yield TITLE, head, ""
    viewport = soup.find("meta", attrs={"name": "viewport"})
    if isinstance(viewport, Tag):
        if re.search(r"user-scalable\s*=\s*(no|0)|maximum-scale\s*=\s*1(\.0)?\b", str(viewport.get("content", ""))):
            yield ZOOM, viewport, ""
    elif isinstance(head, Tag) and head.find(True) and not template:
        yield VIEWPORT, head, ""


def _unlabelled_fields(soup: BeautifulSoup) -> Iterator[tuple[Rule, Tag, str]]:
    labelled = {str(label.get("for")) for label in soup.find_all("label") if label.get("for")}
    dynamic = any("{" in name for name in labelled)
    for field in soup.find_all(["input", "select", "textarea"]):
        kind = str(field.get("type", "text")).lower()
        if field.name == "input" and kind in ("hidden", "submit", "button", "reset", "image"):
            continue
        if any(field.get(name) for name in ("aria-label", "aria-labelledby", "title", ":aria-label")) or any(
            "{" in name for name in field.attrs
        ):
            continue
        if str(field.get("id", "")) in labelled or (dynamic and field.get("id")) or field.find_parent("label"):
            continue
        if field.get("aria-hidden") == "true" or field.get("hidden") is not None:
            continue
        yield LABEL, field, ""


def _duplicate_ids(soup: BeautifulSoup, template: bool) -> Iterator[tuple[Rule, Tag, str]]:
    if template:
        return  # two branches may have the same id, and only one of them is rendered
    seen: set[str] = set()
    for tag in soup.find_all(id=True):
        name = str(tag["id"])
        if name in seen and name and not tag.find_parent(["template", "svg", "defs"]):
            yield DUPLICATE, tag, f"the id “{name}” is used twice"
        seen.add(name)


def _skipped_headings(soup: BeautifulSoup) -> Iterator[tuple[Rule, Tag, str]]:
    before = 0
    for heading in soup.find_all(re.compile(r"^h[1-6]$")):
        level = int(heading.name[1])
        if before and level > before + 1:
            yield HEADINGS, heading, f"h{level} follows h{before}"
        before = level


def style_sheet(file: tree.File, text: str, ledger: Ledger) -> None:
    if "{{" in text and _DYNAMIC.search(text):
        return
    lines = text.splitlines()
    for rule in tinycss2.parse_stylesheet(text, skip_comments=True, skip_whitespace=True):
        if rule.type == "error":
            _css_error(rule, file, ledger)
        elif rule.type == "qualified-rule" and "{" not in tinycss2.serialize(rule.content):  # skips nested rules
            for part in tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True):
                if part.type == "error" and not _is_browser_hack(part, lines):
                    _css_error(part, file, ledger)
                elif part.type == "declaration" and ":focus-visible" not in text and _hides_focus(rule, part):
                    ledger.add(HIDDEN_FOCUS, file=file.path, line=part.source_line, role=file.role)


def _css_error(node: tinycss2.ast.ParseError, file: tree.File, ledger: Ledger) -> None:
    detail = f"CSS that browsers skip: {node.message}"
    ledger.add(CSS_ERROR, file=file.path, line=node.source_line, role=file.role, detail=detail)


def _hides_focus(rule: tinycss2.ast.QualifiedRule, part: tinycss2.ast.Declaration) -> bool:
    """Whether the declaration removes the focus outline, and the rule does not replace it."""
    if part.lower_name not in ("outline", "outline-style") or ":focus" not in tinycss2.serialize(rule.prelude):
        return False
    return tinycss2.serialize(part.value).strip().lower() in ("none", "0") and not _replaces_focus(rule)


def _is_browser_hack(node: tinycss2.ast.ParseError, lines: list[str]) -> bool:
    """Whether it is a hack such as `*zoom: 1`, which only old versions of Internet Explorer read."""
    return bool(_BROWSER_HACK.search(lines[node.source_line - 1])) if node.source_line <= len(lines) else False


def _replaces_focus(rule: tinycss2.ast.QualifiedRule) -> bool:
    """Whether the rule marks focus in another way."""
    return bool(re.search(r"box-shadow|border|background|text-decoration", tinycss2.serialize(rule.content)))

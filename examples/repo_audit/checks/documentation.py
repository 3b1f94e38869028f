"""Checks the documentation: README, licence, and the links, images and anchors in Markdown."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agents.callables import Context, register
from examples.repo_audit.repository import tree
from examples.repo_audit.results import rules
from examples.repo_audit.results.findings import Ledger, Outcome, Rule

NO_README = rules.get("docs:no-readme")
THIN_README = rules.get("docs:thin-readme")
NO_LICENSE = rules.get("docs:no-license")
LINK = rules.get("docs:broken-link")
SITE_LINK = rules.get("docs:broken-site-link")
IMAGE = rules.get("docs:broken-image")
ANCHOR = rules.get("docs:broken-anchor")
CASE = rules.get("docs:case")

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*:|^//|^#!")
_SITES = (
    "mkdocs.yml",
    "mkdocs.yaml",
    "_config.yml",
    "docusaurus.config.js",
    "docusaurus.config.ts",
    "book.toml",
    "conf.py",
    "hugo.toml",
    "config.toml",
    "antora.yml",
    "vitepress",
    "astro.config.mjs",
    "zensical.toml",
)
_TEMPLATED = re.compile(r"[{}<>$*]|\.\.\.")
_COMMENT = re.compile(r"<!--.*?-->", re.S)


@register
def prose(context: Context) -> Outcome:
    """README, licence, and every relative link, image and anchor in Markdown."""
    repository = tree.from_context(context)
    ledger = Ledger()
    markdown = [file for file in repository.select("Markdown") if file.role != "test"]
    link_targets = LinkTargets(repository)
    top = {path.lower(): path for path in repository.every_path if "/" not in path}
    _check_readme_and_licence(repository, top, ledger)
    links = 0
    problems: dict[str, list[tuple[Rule, tree.File, int, str]]] = defaultdict(list)
    relative: Counter[str] = Counter()
    for number, (file, text) in enumerate(tree.texts(markdown)):
        if number % 50 == 0:
            context.progress(number / len(markdown), f"{number:,} of {len(markdown):,} documents")
        ledger.checked_count += 1
        folder = file.path.partition("/")[0] if "/" in file.path else ""
        for kind, target, line in targets(text):
            links += 1
            relative[folder] += not target.startswith("#") and not _SCHEME.match(target)
            if rule := link_targets.problem(file, kind, target):
                problems[folder].append((rule, file, line, target))
    for folder, here in sorted(problems.items()):
        if _is_site(folder, here, relative[folder]):
            ledger.notes.append(
                f"Links below {folder}/ are meant for a site that is built from it, and were not checked."
            )
            continue
        for rule, file, line, target in here:
            detail = "“{}”" if rule in (IMAGE, CASE) else "“{}” leads nowhere"
            ledger.add(rule, file=file.path, line=line, role=file.role, detail=detail.format(target))
    ledger.figures = {"documents": ledger.checked_count, "links": links, "licence": _licence(repository, top)}
    context.progress(1, f"documents checked: {ledger.checked_count:,}")
    return ledger.outcome()


def _is_site(folder: str, problems: list[tuple[Rule, tree.File, int, str]], relative: int) -> bool:
    """Whether a folder's links are meant for a site generator: at least a third of them lead nowhere."""
    broken = sum(rule in (LINK, IMAGE, SITE_LINK) for rule, _file, _line, _target in problems)
    return bool(folder) and broken >= 8 and broken * 3 >= relative


def targets(text: str) -> Iterator[tuple[Literal["link", "image"], str, int]]:
    """Every link and image of a Markdown text outside code, with its line; including raw HTML."""
    for token in MarkdownIt("commonmark").enable("table").parse(_front_matter(text)):
        line = (token.map[0] if token.map else 0) + 1
        if token.type == "html_block":
            yield from _in_html(token.content, line)
        breaks = 0
        for child in token.children or []:
            breaks += child.type in ("softbreak", "hardbreak")
            if child.type == "link_open":
                yield "link", str(child.attrGet("href") or ""), line + breaks
            elif child.type == "image":
                yield "image", str(child.attrGet("src") or ""), line + breaks
            elif child.type == "html_inline":
                yield from _in_html(child.content, line + breaks)


def slugs(text: str) -> set[str]:
    """The anchors of a Markdown text: those that GitHub derives from headings, and explicit ones."""
    repeats: dict[str, int] = {}
    anchors: set[str] = set()
    tokens = MarkdownIt("commonmark").parse(_front_matter(text))
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            title = _plain(tokens[number + 1])
            if explicit := re.search(r"\{:?\s*#([\w.-]+)[^}]*\}\s*$", title):
                anchors.add(explicit[1].lower())
                title = title[: explicit.start()]
            slug = slug_of(title)
            repeat = repeats.get(slug, 0)
            repeats[slug] = repeat + 1
            anchors.add(f"{slug}-{repeat}" if repeat else slug)
    anchors.update(name.lower() for name in re.findall(r"""\b(?:id|name)\s*=\s*["']([^"']+)["']""", text))
    anchors.update(name.lower() for name in re.findall(r"\{:?\s*#([\w.-]+)", text))
    return anchors


def slug_of(title: str) -> str:
    """GitHub's anchor for a heading: lower-case letters, digits, hyphens and underscores; spaces become hyphens."""
    characters = (
        char
        for char in title.strip().lower()
        if char in " -_" or unicodedata.category(char)[0] in "LN" or unicodedata.category(char) == "Mn"
    )
    return "".join(characters).replace(" ", "-")


class LinkTargets:
    """The possible targets of links: tracked files, their folders, and the anchors of documents (read once each)."""

    def __init__(self, repository: tree.Tree) -> None:
        self._files = {file.path: file for file in repository.files}
        self._paths = set(repository.every_path)
        for path in repository.every_path:
            self._paths.update(str(parent) for parent in PurePosixPath(path).parents)
        self._folded = {path.lower() for path in self._paths}
        self._site = any(PurePosixPath(path).name in _SITES for path in repository.every_path)
        self._anchors: dict[str, set[str]] = {}

    def problem(self, file: tree.File, kind: Literal["link", "image"], target: str) -> Rule | None:
        """The rule that this link violates, if any. Links to other sites are not checked: there is no network."""
        if not target or _SCHEME.match(target) or _TEMPLATED.search(target):
            return None
        path, _, anchor = target.partition("#")
        path = unquote(urlsplit(path).path)
        if not path:
            return ANCHOR if anchor and not self._has_anchor(file.path, anchor) else None
        resolved = self._resolve(file.path, path)
        if resolved is None:
            return None
        if resolved not in self._paths:
            return self._missing(resolved, path, kind)
        if anchor and resolved.lower().endswith((".md", ".markdown")) and not self._has_anchor(resolved, anchor):
            return ANCHOR
        return None

    def _resolve(self, file: str, path: str) -> str | None:
        """The path from the root; None if it leaves the repository (such as GitHub's ../../issues)."""
        parts: list[str] = [] if path.startswith("/") else list(PurePosixPath(file).parent.parts)
        for part in path.split("/"):
            if part == "..":
                if not parts:
                    return None
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts) or "."

    def _missing(self, resolved: str, path: str, kind: Literal["link", "image"]) -> Rule | None:
        """The rule that a link to a missing file violates; None if a site generator may create the file."""
        if resolved.lower() in self._folded:
            return CASE
        if any(
            f"{resolved}{suffix}" in self._paths
            for suffix in (".md", ".mdx", ".rst", ".html", "/index.md", "/README.md")
        ):
            return None
        suffix = PurePosixPath(path).suffix
        if path.startswith("/") or (self._site and (kind == "image" or suffix in ("", ".html", ".htm"))):
            return SITE_LINK if kind == "link" and not path.startswith("/") else None
        if not suffix and "/" not in path:
            return SITE_LINK
        return IMAGE if kind == "image" else LINK

    def _has_anchor(self, path: str, anchor: str) -> bool:
        if path not in self._files:
            return True
        if path not in self._anchors:
            self._anchors[path] = slugs(tree.read(self._files[path]) or "")
        name = unquote(anchor).lower().removeprefix("user-content-")
        return (
            name in self._anchors[path]
            or name in ("top", "")
            or (name.startswith((":~:", "l")) and name[1:2].isdigit())
            or (self._site and "." in name)
        )


def _check_readme_and_licence(repository: tree.Tree, top: dict[str, str], ledger: Ledger) -> None:
    readme = next((top[name] for name in top if name.startswith("readme")), "")
    elsewhere = any(path.lower().startswith((".github/readme", "docs/readme")) for path in repository.every_path)
    if repository.every_path and not readme and not elsewhere:
        ledger.add(NO_README, lines=20, detail="")
    elif readme:
        file = next((file for file in repository.files if file.path == readme), None)
        if file is not None and len(tree.read(file) or "") < 200:
            ledger.add(THIN_README, file=readme, detail="")
    if repository.every_path and not _licence(repository, top):
        ledger.add(NO_LICENSE, detail="")


def _licence(repository: tree.Tree, top: dict[str, str]) -> str:
    """The path of the licence; an empty string if there is none."""
    for name in sorted(top):
        if re.match(r"(licen[cs]es?|copying|unlicense|notice)\b", name):
            return top[name]
    return next((path for path in repository.every_path if re.match(r"LICENSES/|licen[cs]e/", path)), "")


def _in_html(content: str, line: int) -> Iterator[tuple[Literal["link", "image"], str, int]]:
    for tag in BeautifulSoup(_COMMENT.sub("", content), "html.parser").find_all(["a", "img"]):
        target = tag.get("href") if tag.name == "a" else tag.get("src")
        if target:
            yield "link" if tag.name == "a" else "image", str(target), line + (tag.sourceline or 1) - 1


def _front_matter(text: str) -> str:
    """The text with its YAML front matter blanked, so that line numbers stay the same."""
    match = re.match(r"---\n.*?\n---\n", text, re.S)
    return "\n" * text.count("\n", 0, match.end()) + text[match.end() :] if match else text


def _plain(token: Token) -> str:
    return "".join(
        child.content for child in token.children or [] if child.type in ("text", "code_inline", "softbreak")
    )

# ruff: noqa: T201  (a program for the terminal)
"""`make docs`: build the documentation site into build/docs. It reads offline, also from the file system.

The pages stay where people look for them in a checkout (README.md, docs/, …). This program copies them into one folder,
points their links at the copies, and runs Zensical, which fails on a link or an anchor that leads nowhere. docs/site.toml
has the navigation.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts import diagrams

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build" / "docs"
NAMES = {"README.md": "index.md", "deploy/README.md": "prometheus.md", "SECURITY.md": "reporting.md"}
TITLES = {"README.md": "What Fleet is", "SECURITY.md": "Reporting a vulnerability", "CONTRIBUTING.md": "Contributing"}
ASSETS = ("docs/site.css", "docs/offline.js")
SHIM = "https://unpkg.com/iframe-worker/shim"  # what Zensical's pages load for the search; docs/offline.js replaces it

LINK = re.compile(r"(?<!!)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
ROW, CODE = re.compile(r"^\|.*$", re.MULTILINE), re.compile(r"`[^`]+`")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
FOREIGN = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""", re.I)


def pages(root: Path) -> list[str]:
    """Return all pages that belong to the site, as paths from the root."""
    found = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *root.glob("deploy/README.md")]
    return sorted(path.relative_to(root).as_posix() for path in found)


def navigation(root: Path) -> dict[str, list[str]]:
    """Return the pages of each section that exist."""
    sections = tomllib.loads((root / "docs" / "site.toml").read_text())["nav"]
    return {section["title"]: [page for page in section["pages"] if (root / page).exists()] for section in sections}


def place(page: str) -> str:
    """Where a page is in the site's folder: ARCHITECTURE.md becomes architecture.md."""
    return NAMES.get(page) or page.removeprefix("docs/").lower()


def title(text: str) -> str:
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    if heading is None:
        raise ValueError("a page without a heading")
    return heading[1].replace("`", "")


def outside_of_code(text: str, replace: Any) -> str:
    """Apply `replace` to a page's text, but not to its blocks of code."""
    parts, position = [], 0
    for block in FENCE.finditer(text):
        parts += [replace(text[position : block.start()]), block[0]]
        position = block.end()
    return "".join([*parts, replace(text[position:])])


def converted(page: str, text: str, *, known: Mapping[str, str]) -> str:
    """Return a page as Zensical shall read it: links lead to pages of the site, and diagrams are pictures."""

    def link(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        path, hash, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if named not in known:
            if not (ROOT / named).exists():
                raise ValueError(f"{page}: {target} does not exist")
            return label  # a file of the checkout, which is not part of the site
        if label.endswith(".md"):  # names of files mean nothing in the site
            label = title((ROOT / named).read_text())
        relative = posixpath.relpath(known[named], posixpath.dirname(known[page]) or ".")
        return f"[{label}]({relative}{hash}{anchor})"

    return with_pictures(outside_of_code(text, lambda part: ROW.sub(with_pipes, LINK.sub(link, part))))


def with_pipes(row: re.Match[str]) -> str:
    """Write the pipes in the code of a table's row as Zensical expects them, and let lines end after them."""
    return CODE.sub(lambda code: code[0].replace("\\|", "|\u200b"), row[0])


def with_pictures(text: str) -> str:
    """Replace blocks of Mermaid by their pictures, or by a list of their arrows if there is no picture."""

    def picture(block: re.Match[str]) -> str:
        path = diagrams.picture(block[1])
        if path.exists():
            return f"{path.read_text()}\n"
        print("A diagram has no picture, and is shown as text: python -m scripts.diagrams", file=sys.stderr)
        return f"```text\n{block[1]}```\n"

    return diagrams.BLOCK.sub(picture, text)


def configuration(root: Path, known: Mapping[str, str]) -> dict[str, Any]:
    """Zensical's, as an mkdocs.yml."""
    nav = [
        {section: [{TITLES.get(page) or title((root / page).read_text()): known[page]} for page in listed]}
        for section, listed in navigation(root).items()
    ]
    return {
        "site_name": "Fleet",
        "docs_dir": "pages",
        "site_dir": "site",
        "use_directory_urls": False,
        "nav": nav,
        "plugins": [{"search": {}}, {"offline": {}}],
        "theme": {
            "variant": "modern",
            "font": False,
            "language": "en",
            "features": [
                "content.code.copy",
                "navigation.footer",
                "navigation.path",
                "navigation.sections",
                "navigation.top",
                "search.highlight",
                "toc.follow",
            ],
            "palette": [
                {
                    "media": "(prefers-color-scheme: light)",
                    "scheme": "default",
                    "toggle": {"icon": "lucide/sun", "name": "Switch to dark mode"},
                },
                {
                    "media": "(prefers-color-scheme: dark)",
                    "scheme": "slate",
                    "toggle": {"icon": "lucide/moon", "name": "Switch to light mode"},
                },
            ],
        },
        "extra": {"generator": False},
        "extra_css": ["site.css"],
        "markdown_extensions": [
            "admonition",
            "attr_list",
            "md_in_html",
            "tables",
            {"toc": {"permalink": True, "slugify": {"object": "pymdownx.slugs.slugify", "kwds": {"case": "lower"}}}},
            {"pymdownx.highlight": {"pygments_lang_class": True}},
            "pymdownx.superfences",
        ],
        "validation": {"invalid_links": True, "invalid_link_anchors": True},
    }


def foreign_requests(output: Path) -> Iterator[str]:
    """Yield what a browser would load from elsewhere when it shows a page."""
    for path in sorted(output.rglob("*.html")):
        for tag in FOREIGN.findall(path.read_text()):
            if 'rel="canonical"' not in tag:
                yield f"{path.relative_to(output)}: {tag[:120]}"
    for path in sorted(output.rglob("*.css")):
        for url in re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text()):
            yield f"{path.relative_to(output)}: {url[:120]}"


def build(output: Path) -> int:
    """Build the site into a folder. Returns the exit code."""
    listed = [page for section in navigation(ROOT).values() for page in section]
    if missing := sorted(set(pages(ROOT)) - set(listed)):
        print(f"Not in the navigation (docs/site.toml): {', '.join(missing)}", file=sys.stderr)
        return 1
    source = output.with_name(f"{output.name}-source")
    for folder in (source, output):
        shutil.rmtree(folder, ignore_errors=True)
    known = {page: place(page) for page in listed}
    for page, name in known.items():
        copy = source / "pages" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(converted(page, (ROOT / page).read_text(), known=known))
    for asset in ASSETS:
        shutil.copy(ROOT / asset, source / "pages")
    settings = source / "mkdocs.yml"
    settings.write_text(yaml.safe_dump(configuration(ROOT, known), sort_keys=False))
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run([zensical, "build", "--strict", "--clean", "-f", settings], check=False)
    if done.returncode:
        return done.returncode
    (source / "site").rename(output)
    for path in output.rglob("*.html"):
        own = posixpath.relpath("offline.js", path.parent.relative_to(output).as_posix())
        path.write_text(path.read_text().replace(SHIM, own))
    if foreign := list(foreign_requests(output)):
        print("The site would load something from elsewhere:", *foreign, sep="\n", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    if code := build(OUTPUT):
        return code
    print(f"Open {(OUTPUT / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

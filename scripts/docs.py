# ruff: noqa: T201  (a program for the terminal)
"""`make docs`: build the documentation site into build/docs. It works offline, even when opened as a file.

The pages stay where people look for them in a checkout (README.md, docs/, …). This program copies them into one folder,
points their links at the copies, and runs Zensical, which fails on a broken link or anchor. docs/site.toml has the
navigation.
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
EXTERNAL = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//[^>]*>""", re.I)


def pages(root: Path) -> list[str]:
    """Return all pages that belong to the site, as paths from the root."""
    paths = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *root.glob("deploy/README.md")]
    return sorted(path.relative_to(root).as_posix() for path in paths)


def navigation(root: Path) -> dict[str, list[str]]:
    """Return the pages of each section that exist."""
    sections = tomllib.loads((root / "docs" / "site.toml").read_text())["nav"]
    return {section["title"]: [page for page in section["pages"] if (root / page).exists()] for section in sections}


def site_path(page: str) -> str:
    """The path of a page in the site's folder: ARCHITECTURE.md becomes architecture.md."""
    return NAMES.get(page) or page.removeprefix("docs/").lower()


def title(text: str) -> str:
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    if heading is None:
        raise ValueError("a page without a heading")
    return heading[1].replace("`", "")


def replace_outside_code(text: str, replace: Any) -> str:
    """Apply `replace` to a page's text, but not to its code blocks."""
    parts, position = [], 0
    for block in FENCE.finditer(text):
        parts += [replace(text[position : block.start()]), block[0]]
        position = block.end()
    return "".join([*parts, replace(text[position:])])


def convert(page: str, text: str, *, site_paths: Mapping[str, str]) -> str:
    """Convert a page for Zensical: links lead to pages of the site, and diagrams become pictures."""

    def link(match: re.Match[str]) -> str:
        label, target = match[1], match[2]
        path, hash, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        page_path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if page_path not in site_paths:
            if not (ROOT / page_path).exists():
                raise ValueError(f"{page}: {target} does not exist")
            return label  # a file of the checkout, which is not part of the site
        if label.endswith(".md"):  # readers of the site do not know the file names
            label = title((ROOT / page_path).read_text())
        relative = posixpath.relpath(site_paths[page_path], posixpath.dirname(site_paths[page]) or ".")
        return f"[{label}]({relative}{hash}{anchor})"

    return insert_pictures(replace_outside_code(text, lambda part: ROW.sub(convert_pipes, LINK.sub(link, part))))


def convert_pipes(row: re.Match[str]) -> str:
    """Write the pipes in the code of a table row as Zensical expects them, and allow line breaks after them."""
    return CODE.sub(lambda code: code[0].replace("\\|", "|\u200b"), row[0])


def insert_pictures(text: str) -> str:
    """Replace Mermaid blocks by their pictures; a block without a picture is shown as text."""

    def picture(block: re.Match[str]) -> str:
        path = diagrams.picture_path(block[1])
        if path.exists():
            return f"{path.read_text()}\n"
        print("A diagram has no picture, and is shown as text: python -m scripts.diagrams", file=sys.stderr)
        return f"```text\n{block[1]}```\n"

    return diagrams.BLOCK.sub(picture, text)


def configuration(root: Path, site_paths: Mapping[str, str]) -> dict[str, Any]:
    """Zensical's configuration, in the format of mkdocs.yml."""
    nav = [
        {section: [{TITLES.get(page) or title((root / page).read_text()): site_paths[page]} for page in listed]}
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


def external_requests(output: Path) -> Iterator[str]:
    """Yield what a browser would load from other hosts when it shows a page."""
    for path in sorted(output.rglob("*.html")):
        for tag in EXTERNAL.findall(path.read_text()):
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
    site_paths = {page: site_path(page) for page in listed}
    for page, name in site_paths.items():
        copy = source / "pages" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(convert(page, (ROOT / page).read_text(), site_paths=site_paths))
    for asset in ASSETS:
        shutil.copy(ROOT / asset, source / "pages")
    settings = source / "mkdocs.yml"
    settings.write_text(yaml.safe_dump(configuration(ROOT, site_paths), sort_keys=False))
    zensical = Path(sys.executable).with_name("zensical")
    result = subprocess.run([zensical, "build", "--strict", "--clean", "-f", settings], check=False)
    if result.returncode:
        return result.returncode
    (source / "site").rename(output)
    for path in output.rglob("*.html"):
        own = posixpath.relpath("offline.js", path.parent.relative_to(output).as_posix())
        path.write_text(path.read_text().replace(SHIM, own))
    if external := list(external_requests(output)):
        print("The site would load something from another host:", *external, sep="\n", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    if code := build(OUTPUT):
        return code
    print(f"Open {(OUTPUT / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# ruff: noqa: T201  (a program for the terminal)
"""Draw the state diagrams of the pages for the site: `python -m scripts.diagrams`, which needs Graphviz (dot).

The pages contain the diagrams as Mermaid blocks, which GitHub renders. Mermaid needs 3 MB of JavaScript, so the site
shows a picture from docs/diagrams instead, named after the digest of the block. A changed block has no picture until
this program has run; until then the site shows the block as text.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "diagrams"
BLOCK = re.compile(r"^```mermaid\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
ARROW = re.compile(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+): (.+)$", re.MULTILINE)


def picture_path(block: str) -> Path:
    """The path of the picture of a Mermaid block, whether or not it exists."""
    return FOLDER / f"{hashlib.sha256(block.encode()).hexdigest()[:12]}.svg"


def dot_source(block: str) -> str:
    """Convert a diagram to Graphviz's language. Supports only state diagrams with labelled arrows."""
    lines = [
        "digraph {",
        'rankdir=TB; bgcolor="transparent"; ranksep=0.45; nodesep=0.35',
        'node [shape=box, style="rounded", fontname="sans-serif", fontsize=12, height=0.35]',
        'edge [fontname="sans-serif", fontsize=11, arrowsize=0.7]',
    ]
    for number, (source, target, label) in enumerate(ARROW.findall(block)):
        if source == "[*]":
            lines.append(f"start{number} [shape=point, width=0.12]")
            source = f"start{number}"
        lines.append(f'{source} -> {target} [label=" {label} "]')
    return "\n".join([*lines, "}"])


def clean_svg(svg: str) -> str:
    """Adapt dot's output to a page: in the colour of its text, and no wider than it."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>\n?", "", svg)
    svg = re.sub(r'(stroke|fill)="black"', r'\1="currentColor"', svg)
    svg = re.sub(r"<text ", '<text fill="currentColor" ', svg)
    width = re.search(r'width="(\d+)pt" height="\d+pt"', svg)
    if width is None:
        raise ValueError("the picture from dot has no width")
    return svg.replace(width[0], f'class="diagram" role="img" style="max-width: {width[1]}pt"')


def main() -> int:
    current_paths = set()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in BLOCK.findall(page.read_text()):
            path = picture_path(block)
            current_paths.add(path)
            if not path.exists():
                result = subprocess.run(
                    ["dot", "-Tsvg"], input=dot_source(block), capture_output=True, text=True, check=True
                )
                path.parent.mkdir(exist_ok=True)
                path.write_text(clean_svg(result.stdout))
                print(f"{page.relative_to(ROOT)}: {path.relative_to(ROOT)}")
    for path in set(FOLDER.glob("*.svg")) - current_paths:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

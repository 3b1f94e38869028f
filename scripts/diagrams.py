# ruff: noqa: T201  (a program for the terminal)
"""Draw the state diagrams of the pages for the site: `python -m scripts.diagrams`, which needs Graphviz (dot).

A page has its diagram as a block of Mermaid, which GitHub draws. Mermaid needs 3 MB of JavaScript, so the site shows a
picture from docs/diagrams instead. Its name is the digest of the block: a block that has changed has no picture until
this program has run, and the site shows its arrows as text.
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


def picture(block: str) -> Path:
    """Where the picture of a block of Mermaid is, or would be."""
    return FOLDER / f"{hashlib.sha256(block.encode()).hexdigest()[:12]}.svg"


def dot_source(block: str) -> str:
    """The diagram in Graphviz's language. Only state diagrams with labelled arrows are known."""
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


def cleaned(svg: str) -> str:
    """The picture for a page: in the colour of its text, no wider than the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>\n?", "", svg)
    svg = re.sub(r'(stroke|fill)="black"', r'\1="currentColor"', svg)
    svg = re.sub(r"<text ", '<text fill="currentColor" ', svg)
    width = re.search(r'width="(\d+)pt" height="\d+pt"', svg)
    if width is None:
        raise ValueError("dot has drawn something else than expected")
    return svg.replace(width[0], f'class="diagram" role="img" style="max-width: {width[1]}pt"')


def main() -> int:
    wanted = set()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in BLOCK.findall(page.read_text()):
            path = picture(block)
            wanted.add(path)
            if not path.exists():
                done = subprocess.run(
                    ["dot", "-Tsvg"], input=dot_source(block), capture_output=True, text=True, check=True
                )
                path.parent.mkdir(exist_ok=True)
                path.write_text(cleaned(done.stdout))
                print(f"{page.relative_to(ROOT)}: {path.relative_to(ROOT)}")
    for path in set(FOLDER.glob("*.svg")) - wanted:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())

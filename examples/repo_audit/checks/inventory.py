"""The first sortie: counts the files of the repository and divides the further work.

It adds one `complexity[language=…]` for each language (large languages in several parts) and one `secrets[part=…]` for
each share of the files. Sorties of the plan wait for all of them.
"""

from __future__ import annotations

from collections import Counter

from agents.callables import Context, register
from examples.repo_audit.repository import git, languages, tree

FILES_PER_PART = 2_500
MAX_PARTS = 6  # of each kind


@register
def survey(context: Context) -> dict[str, object]:
    """Count files and lines by language, and add the sorties that check them."""
    repository = tree.from_context(context)
    context.progress(0.2, f"reading {len(repository.files):,} files")
    lines: Counter[str] = Counter()
    files: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    for number, file in enumerate(repository.files):
        text = tree.read(file)
        if text is None:
            repository.skipped["binary, unreadable or generated"] += 1
            continue
        files[file.language] += 1
        lines[file.language] += text.count("\n") + 1
        roles[file.role] += 1
        if number % 2_000 == 1_999:
            context.progress(
                0.2 + 0.7 * number / len(repository.files), f"{number + 1:,} of {len(repository.files):,} files read"
            )
    complexity = _share_by_language(files)
    for name, share in complexity.items():
        context.add(
            name=f"complexity[language={name}]",
            agent="performance",
            call="examples.repo_audit.checks.complexity:measure",
            **{"with": share, "before": ["hotspots", "report"]},
        )
    parts = min(MAX_PARTS, -(-len(repository.files) // FILES_PER_PART))
    for number in range(1, parts + 1):
        context.add(
            name=f"secrets[part={number}]",
            agent="security",
            call="examples.repo_audit.checks.security:scan",
            **{"with": {"part": number, "of": parts}, "before": ["report"]},
        )
    context.progress(1, f"files read: {sum(files.values()):,}")
    return {
        "root": tree.displayable(str(repository.root).encode("utf-8", "surrogateescape")),
        "head": git.head(repository.root) if git.has_commits(repository.root) else None,
        "tracked": len(repository.every_path),
        "files": sum(files.values()),
        "lines": sum(lines.values()),
        "bytes": sum(file.size for file in repository.files),
        "languages": [
            {"name": name or "other", "files": files[name], "lines": count, "code": _is_code(name)}
            for name, count in lines.most_common(25)
        ],
        "roles": dict(roles),
        "skipped": dict(repository.skipped.most_common()),
        "added": len(complexity) + parts,
    }


def _is_code(language: str) -> bool:
    return language in languages.BY_NAME and languages.BY_NAME[language].code


def _share_by_language(files: Counter[str]) -> dict[str, dict[str, object]]:
    """The arguments of each complexity sortie by name: one or more for each large language, and one for all others."""
    shares: dict[str, dict[str, object]] = {}
    rest = []
    for language, number in files.most_common():
        if not _is_code(language):
            continue
        parts = min(MAX_PARTS - len(shares), -(-number // FILES_PER_PART))
        if parts < 1:
            rest.append(language)
        for part in range(1, parts + 1):
            name = language.lower().replace("+", "p").replace("#", "sharp") + (f"-{part}" if parts > 1 else "")
            shares[name] = {"languages": [language], "part": part, "of": parts}
    if rest:
        shares["others"] = {"languages": rest, "part": 1, "of": 1}
    return shares

"""The language of a file by its name, and the colour of each language in charts.

Colours follow GitHub's linguist if they are readable in light and dark mode.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple


class Language(NamedTuple):
    """`code` languages have functions that lizard can measure; others are markup, data or configuration."""

    name: str
    colour: str
    code: bool = False


_LANGUAGES: dict[Language, str] = {
    Language("Python", "#3572a5", True): "py pyi",
    Language("JavaScript", "#c9a800", True): "js mjs cjs jsx",
    Language("TypeScript", "#3178c6", True): "ts tsx mts cts",
    Language("Go", "#00a3c4", True): "go",
    Language("Rust", "#c77b57", True): "rs",
    Language("Java", "#b07219", True): "java",
    Language("Kotlin", "#8f6ae8", True): "kt kts",
    Language("C", "#7a7a7a", True): "c h",
    Language("C++", "#e0527d", True): "cc cpp cxx hh hpp hxx",
    Language("C#", "#178600", True): "cs",
    Language("Objective-C", "#438eff", True): "m mm",
    Language("Ruby", "#a2342c", True): "rb rake gemspec",
    Language("PHP", "#6471b3", True): "php",
    Language("Swift", "#f05138", True): "swift",
    Language("Scala", "#c22d40", True): "scala",
    Language("Lua", "#4455bb", True): "lua",
    Language("Perl", "#0298c3", True): "pl pm",
    Language("R", "#198ce7", True): "r",
    Language("Vue", "#41b883", True): "vue",
    Language("Erlang", "#b83998", True): "erl hrl",
    Language("Zig", "#d9882b", True): "zig",
    Language("Fortran", "#734f96", True): "f90 f95 f03 f08",
    Language("Solidity", "#8a8a99", True): "sol",
    Language("Elixir", "#8a5fa0"): "ex exs",
    Language("Haskell", "#7d6fb3"): "hs",
    Language("Clojure", "#db5855"): "clj cljs",
    Language("Dart", "#00a08a"): "dart",
    Language("Shell", "#6f9f3a"): "sh bash zsh fish",
    Language("PowerShell", "#3a6ea5"): "ps1 psm1",
    Language("SQL", "#d97b00"): "sql",
    Language("HTML", "#e34c26"): "html htm xhtml jinja jinja2 j2 hbs ejs mustache",
    Language("CSS", "#7a52b3"): "css",
    Language("Sass", "#c6538c"): "scss sass less",
    Language("Svelte", "#e0431a"): "svelte",
    Language("Markdown", "#5f7f9f"): "md markdown mdx",
    Language("reStructuredText", "#8a8a8a"): "rst",
    Language("Text", "#9a9a9a"): "txt adoc org tex",
    Language("YAML", "#b8323a"): "yaml yml",
    Language("JSON", "#6b7f99"): "json jsonc json5",
    Language("TOML", "#9c5a3c"): "toml",
    Language("XML", "#4f8f6f"): "xml xsd xsl plist svg",
    Language("Configuration", "#8f8f6f"): "ini cfg conf env properties",
    Language("Terraform", "#844fba"): "tf tfvars hcl",
    Language("Protocol Buffers", "#6f8f8f"): "proto",
    Language("Notebook", "#da8a2b"): "ipynb",
}
BY_NAME = {language.name: language for language in _LANGUAGES}
_BY_SUFFIX = {suffix: language.name for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}
_BY_FILE = {
    "dockerfile": "Dockerfile",
    "containerfile": "Dockerfile",
    "makefile": "Makefile",
    "gnumakefile": "Makefile",
    "rakefile": "Ruby",
    "gemfile": "Ruby",
    ".env": "Configuration",
    ".editorconfig": "Configuration",
}
BY_NAME["Dockerfile"] = Language("Dockerfile", "#4f7f9f")
BY_NAME["Makefile"] = Language("Makefile", "#427819")


def detect(path: str) -> str:
    """The name of a file's language; an empty string if it is unknown."""
    name = PurePosixPath(path).name.lower()
    if name in _BY_FILE or name.split(".")[0] in ("dockerfile", "containerfile"):
        return _BY_FILE.get(name, "Dockerfile")
    return _BY_SUFFIX.get(name.rpartition(".")[2], "") if "." in name else ""

"""The configuration and environment with which the fleet runs git: nothing of the host, of users or of agents."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings

from fleet.host import trusted_programs

CONFIGURATION = Path(__file__).with_name("gitconfig")
PUSH_CONFIGURATION = Path(__file__).with_name("gitconfig-push")  # the receiving repository runs its hooks
# These override what a repository's own configuration says.
OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=false")
# Whoever may write to a repository can choose the identity in its configuration, and so what git writes to a reflog.
_IDENTITY = {"GIT_COMMITTER_NAME": "Fleet", "GIT_COMMITTER_EMAIL": "fleet@localhost"}
# Environment variables that git inherits: paths, the ssh agent, certificates and proxies.
_INHERITED = (
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSL_CAINFO",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
)


def in_local_repository() -> dict[str, str]:
    """The environment of git in a repository of a user on this host: no credentials, no reflogs, a fixed identity."""
    pairs = [option.split("=", 1) for option in (*OPTIONS[1::2], "core.logAllRefUpdates=false")]
    environment = {"GIT_CONFIG_COUNT": str(len(pairs)), **_IDENTITY}
    for number, (key, value) in enumerate(pairs):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return {**_base(("HOME", "TMPDIR")), **environment}


def default() -> dict[str, str]:
    """The environment of git in the fleet's own repositories, and of transfers from and to servers."""
    return {**_base(_INHERITED), **_credentials()}


def _base(inherited: Sequence[str]) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in inherited if name in os.environ},
        "PATH": trusted_programs.path_variable(),  # git and ssh run outside the sandbox
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(CONFIGURATION),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ALLOW_PROTOCOL": "file:https:ssh",  # a repository's own configuration cannot allow others
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    }


def _credentials() -> dict[str, str]:
    """The configuration with which git finds the passwords of https addresses."""
    if not settings.FLEET_GIT_CREDENTIALS:
        return {}
    helper = f"store --file={shlex.quote(settings.FLEET_GIT_CREDENTIALS)}"  # git passes it to a shell
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper", "GIT_CONFIG_VALUE_0": helper}

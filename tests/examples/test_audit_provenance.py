"""The `provenance` of the sample mission: what it reports about signed and unsigned commits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agents.callables import Context
from examples.repo_audit.checks import provenance
from fleet import errors
from tests.examples import audit_runs

signs = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen to sign with")


def describe(place: Path) -> dict[str, str]:
    context = Context(
        needs={}, inputs={"repository": str(place)}, cwd=place, scratch=place / "x", report=lambda fraction, note: None
    )
    return provenance.signature(context)


@pytest.fixture
def signed_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose newest commit is signed by Ada, in a home that knows nobody yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20)
    place = audit_runs.repository(tmp_path / "signed", {"a.py": "x = 1\n"})
    ssh = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}")
    audit_runs.git(place, *ssh, "commit", "-q", "--allow-empty", "-S", "-m", "Sign")
    return place


def test_an_unsigned_commit_is_reported_as_such(tmp_path: Path) -> None:
    place = audit_runs.repository(tmp_path / "r", {"a.py": "gpgsig\n"})
    with pytest.raises(errors.NotFound, match=r"The newest commit is not signed\."):
        describe(place)


def test_a_repository_without_commits_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="There is no commit yet"):
        describe(audit_runs.repository(tmp_path / "r", {"a.py": "x = 1\n"}, commit=False))


@signs
def test_a_signature_with_an_unknown_key_cannot_be_verified(signed_repository: Path) -> None:
    with pytest.raises(errors.Forbidden, match=r"could not be verified: .*allowedSignersFile"):
        describe(signed_repository)


@signs
def test_a_valid_signature_is_reported_whatever_verifier_the_repository_configures(
    signed_repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "allowed").write_text("ada@example.org " + (tmp_path / "key.pub").read_text())
    (tmp_path / ".gitconfig").write_text(f"[gpg.ssh]\nallowedSignersFile = {tmp_path / 'allowed'}\n")
    mark = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {mark}\n")
    evil.chmod(0o755)
    for key in ("gpg.program", "gpg.ssh.program", "gpg.x509.program", "core.fsmonitor"):
        audit_runs.git(signed_repository, "config", key, str(evil))
    assert 'Good "git" signature for ada@example.org' in describe(signed_repository)["output"]
    assert not mark.exists()

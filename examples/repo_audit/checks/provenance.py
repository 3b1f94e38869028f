"""Checks the signature of the newest commit."""

from __future__ import annotations

from agents.callables import Context, register
from examples.repo_audit.repository import git, tree
from fleet import errors


@register
def signature(context: Context) -> dict[str, str]:
    """The checker's output for a good signature of the newest commit.

    NotFound if there is none, which the plan tolerates; Forbidden if it is bad or cannot be checked here.
    """
    root = git.root(tree.repository_path(context))
    if not git.has_commits(root):
        raise errors.NotFound("There is no commit yet, so there is no signature.")
    if not git.is_signed(root):
        raise errors.NotFound("The newest commit is not signed.")
    good, output = git.verified(root)
    if not good:
        reason = output.rpartition("\n")[2] or "git gives no reason"
        raise errors.Forbidden(f"The signature of the newest commit could not be verified: {reason}")
    return {"output": output}

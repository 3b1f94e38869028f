"""Who vouches for the newest commit."""

from __future__ import annotations

from agents.callables import Context, register
from examples.repo_audit import git, tree
from fleet import errors


@register
def signature(context: Context) -> dict[str, str]:
    """What the checker says of the newest commit's good signature. NotFound where there is none, which the plan
    tolerates; Forbidden for one that is bad, or that nobody here can check."""
    root = git.root(tree.place(context))
    if not git.has_commits(root):
        raise errors.NotFound("There is no commit yet that could carry a signature.")
    if not git.is_signed(root):
        raise errors.NotFound("The last commit carries no signature.")
    good, said = git.verified(root)
    if not good:
        last = said.rpartition("\n")[2] or "git does not say why"
        raise errors.Forbidden(f"The last commit's signature cannot be vouched for here: {last}")
    return {"said": said}

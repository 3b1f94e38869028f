"""The work of the sorties: each module checks one aspect of the repository, as a registered callable.

`secrets` has the detectors of `security`. Checks use `repository` and `results`; only `hotspots` needs another one's
results, which it gets as those of a sortie.
"""

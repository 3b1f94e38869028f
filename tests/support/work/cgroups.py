"""Whether this host delegates a cgroup to the tests, as it would to a node."""

from __future__ import annotations

import pytest

from agents.confinement import cgroups

NO_CGROUP = cgroups.find()[1]  # the reason why not, or ""
needs_cgroup = pytest.mark.skipif(bool(NO_CGROUP), reason=f"cgroup v2: {NO_CGROUP}")

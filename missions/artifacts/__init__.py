"""Artifacts: the files that attempts produce, stored by digest and verified when read."""

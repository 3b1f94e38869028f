"""Artifacts: files that attempts produce. They are collected after the work, stored by digest, and verified when read."""

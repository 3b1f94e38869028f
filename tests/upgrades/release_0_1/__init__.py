"""A frozen copy of how an agent of release 0.1 registers, claims, renews and settles. Never change it.

It uses nothing of the product: what is not here may change. When the next release is made, its copy is put beside this
one, and this one stays as long as upgrades from 0.1 are supported (docs/upgrade.md).
"""

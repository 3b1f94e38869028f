"""Outcomes and claims in the database.

`verdict` turns a driver's evidence into a settlement. `settle_and_claim` accepts settlements and claims work;
`settling` frees or skips what depends on a sortie that has ended; `insertion` inserts sorties. All but `verdict` run in
the caller's transaction and return what is left to do after its commit.
The engine, the operations and the control loop call this package. It imports no other part of the engine.
"""

"""Turns the data of a plan into its sorties: expands matrices, resolves needs, and finds cycles and other problems."""

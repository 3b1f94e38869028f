"""Agents over HTTP: their types, the roster of agents and nodes, and what external agents call."""

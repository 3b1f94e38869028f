"""Missions that show what a fleet can do. Each has its own requirements; the product does not import them."""

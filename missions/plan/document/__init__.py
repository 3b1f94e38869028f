"""Turns the text of a plan into data that satisfies `schema.json`, with the line of every part, within a deadline."""

"""From the text of a plan to data that satisfies `schema.json`, with the line of every part and a deadline for the work."""

"""Input and output of commands: arguments, help, completion, lines, progress, JSON, hints. Knows Django, but no models."""

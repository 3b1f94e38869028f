"""Input and output of commands: arguments, help, completion, lines, progress and JSON. Knows Django, but no models."""

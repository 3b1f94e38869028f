"""Data that would be executed as code: by SQL, a shell, a terminal, or a dependency."""

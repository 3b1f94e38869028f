"""Data that would become code: in SQL, a shell, a terminal, or a dependency."""

"""The Django project, and what every app needs: it imports no app."""

__version__ = "0.1.0"

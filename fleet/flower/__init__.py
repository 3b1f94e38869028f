"""Flower, the monitor of Celery: starts it on a Unix socket (`__main__`), and proxies it through the site (`views`)."""

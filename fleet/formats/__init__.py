"""Date and time formats of the pages (Django's FORMAT_MODULE_PATH)."""

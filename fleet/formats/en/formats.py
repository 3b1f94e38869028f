"""Date formats with seconds, which distinguish attempts, and 24 hours, as in logs."""

DATETIME_FORMAT = "j M Y, H:i:s"
TIME_FORMAT = "H:i:s"

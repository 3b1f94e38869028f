"""With seconds, which tell one attempt from the next; in 24 hours, as logs have them."""

DATETIME_FORMAT = "j M Y, H:i:s"
TIME_FORMAT = "H:i:s"

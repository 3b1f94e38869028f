"""Events: the table (`models`), the stream that misses none (`stream`), and the names of their subjects (`naming`)."""

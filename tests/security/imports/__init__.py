"""Files that pretend to be exported missions."""

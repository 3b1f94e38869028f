"""Files that attempts leave behind: collected from their scratch folder, stored by digest, verified when they are read."""

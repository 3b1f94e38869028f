"""From the data of a plan to the sorties it describes: matrices expanded, needs resolved, cycles and other faults found."""

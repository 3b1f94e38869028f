"""Checkpoints as files.

`storage` writes and reads blobs and manifests, and checks each of them against its SHA-256. `loading` reads a mission
from them, as a `SavedMission`, and finds the newest checkpoint that is intact.
This package does not read missions from the database; it uses only the table of checkpoints.
"""

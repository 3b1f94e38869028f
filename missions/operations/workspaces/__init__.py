"""What people do with the work on a repository: look at it, resolve conflicts, merge it into their own, discard it.

One implementation for the commands, the admin and the API. `unmerged` says what would be lost; retention asks it too.
"""

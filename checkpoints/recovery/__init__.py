"""What people need to know before they restore a mission or take it over.

`plan` says what a restore would do, and `risks` what could go wrong; both are pure. `context` is the recovery context
that each checkpoint has, derived from the rows of the mission.
The interfaces use their types. Of `checkpoints`, this package imports only `document`.
"""

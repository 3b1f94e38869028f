"""The operations on schedules: change them (`editing`), and launch what is due or requested (`running`).

`policies` decides the outcome of a tick, without touching rows. `launches` checks what a schedule would launch.
"""

from missions.operations.schedules.editing import change, create, delete, pause, resume
from missions.operations.schedules.running import decide_next, launch_waiting, run_now

__all__ = ["change", "create", "decide_next", "delete", "launch_waiting", "pause", "resume", "run_now"]

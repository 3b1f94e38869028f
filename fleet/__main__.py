"""`python -m fleet`, and the program that the fleet starts for its own processes (`invocation.program`).

Those are started with `-P`, so that no file in the current folder can shadow a module. A checkout is then not on the
path yet.
"""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

from fleet import command_line  # noqa: E402

if __name__ == "__main__":
    command_line.run()

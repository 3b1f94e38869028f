"""Started as `python -P …/agents/child/__main__.py FOLDER`. The checkout comes onto its path here and not by a variable,
which every Python that the callable starts would inherit."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.child.main import main

sys.exit(main(Path(sys.argv[1])))

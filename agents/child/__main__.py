"""Started as `python -P …/agents/child/__main__.py FOLDER`.

It puts the checkout on its path here, because every Python process that the callable starts would inherit PYTHONPATH.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from agents.child.main import main

sys.exit(main(Path(sys.argv[1])))

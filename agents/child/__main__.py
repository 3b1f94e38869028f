"""Started as `python -P …/agents/child/__main__.py FOLDER`.

It puts the checkout on its path here, because every Python process that the callable starts would inherit PYTHONPATH.
"""

import sys
from pathlib import Path

if (code := str(Path(__file__).resolve().parents[2])) not in sys.path:  # an installed package is already there
    sys.path.insert(0, code)

from agents.child.main import main

sys.exit(main(Path(sys.argv[1])))

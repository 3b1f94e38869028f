"""Started as `python -I -S …/agents/shim/__main__.py`, with only the standard library on its path."""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from agents.shim.main import main

main()

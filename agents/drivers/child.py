"""The child process of the python driver: `python -m agents.drivers.child`, with its orders in $FLEET_SCRATCH/call.json.

It has no Django settings and no credentials. Standard output is output; what the fleet reads lies in files.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

from agents import callables
from fleet import errors


def main() -> int:
    scratch = Path(os.environ["FLEET_SCRATCH"])
    orders = json.loads((scratch / "call.json").read_text())
    context = callables.Context(
        needs=orders["needs"], inputs=orders["inputs"], cwd=Path.cwd(), scratch=scratch, report=_report
    )
    try:
        importlib.import_module(orders["call"].partition(":")[0])
        result = callables.get(orders["call"])(context, **orders["arguments"])
        text = json.dumps(result, allow_nan=False, ensure_ascii=False)
        if len(text.encode("utf-8", "surrogatepass")) > orders["result_bytes"]:
            raise errors.Invalid(
                f"The result is larger than {orders['result_bytes']:,} bytes.",
                hint="Give large things out as files, under `outputs`.",
            )
        (scratch / "sorties.json").write_text(json.dumps(context.added))
        (scratch / "result.json").write_text(text, encoding="utf-8")
    except SystemExit as left:
        if left.code in (None, 0):
            return 0
        return _fail(scratch, f"The callable ended its process: SystemExit({left.code!r}).")
    except errors.FleetError as fault:
        return _fail(scratch, str(fault))
    except BaseException as fault:
        traceback.print_exc()
        return _fail(scratch, traceback.format_exception_only(fault)[-1].strip())
    return 0


def _fail(scratch: Path, error: str) -> int:
    (scratch / "error.json").write_text(json.dumps(error))
    return 1


def _report(fraction: float | None, note: str) -> None:
    words = note.replace("\n", " ")
    with open(os.environ["FLEET_PROGRESS"], "w", encoding="utf-8") as pipe:
        pipe.write(f"{words}\n" if fraction is None else f"{fraction:.4f} {words}\n")


if __name__ == "__main__":
    sys.exit(main())

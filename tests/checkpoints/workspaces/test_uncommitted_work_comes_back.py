"""A capture reads the uncommitted work of running attempts; after a restore the next attempt continues from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from checkpoints import operations
from fleet import errors, ids
from missions import operations as missions
from missions.models import Mission, SavedWork, Sortie
from missions.workspaces import copies, git_diffs
from missions.workspaces.repositories import git, mirrors
from tests.support import fleet, repository
from tests.support.checkpoints import sortie
from tests.support.repository import Repository
from tests.support.waiting import until
from tests.support.work.restoring import finish, launch, refs, restore

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

# Leaves a draft and never ends. An attempt that finds a draft finishes it.
DRAFT = "if test -f draft.txt; then cat draft.txt > done.txt; rm draft.txt; else {work} touch {flag}; sleep 600; fi"


@contextmanager
def run_until(mission: Mission, *, condition: Callable[[], bool]) -> Iterator[None]:
    """Run the mission in an engine until the condition holds. The engine is stopped after the block."""
    engine = fleet.engine()
    thread = threading.Thread(target=engine.run_slot, daemon=True)
    thread.start()
    try:
        until(condition)
        yield
    finally:
        engine.stop(within_s=5)
        thread.join(10)


def test_the_next_attempt_continues_from_the_uncommitted_work(
    project: Repository, settings: Any, tmp_path: Path
) -> None:
    settings.FLEET_COMMIT_BYTES = 1_000
    work = (
        "echo half > draft.txt; sed -i s/two/2/ app.py; echo x > some.log; head -c 2000 /dev/zero > big.bin;"
        " mkdir 'a b'; echo new > 'a b/ü.txt'; git init -q inner; echo y > inner/y.txt; git add app.py; git commit -qm own;"
    )
    mission = launch(
        project, {"slow": {"run": DRAFT.format(work=work, flag="$FLEET_SCRATCH/flag; mkdir build; touch build/ready")}}
    )
    row = Sortie.objects.get(mission=mission)
    copy = copies.of(sortie=row.id, mirror=mirrors.of(str(project.path)))
    with run_until(mission, condition=lambda: (copy.path / "build" / "ready").exists()):
        before = sorted(path.name for path in copy.path.iterdir())
        status = git.line("status", "--porcelain", at=copy.path)
        checkpoint = operations.capture(missions=[mission.id])
        assert sorted(path.name for path in copy.path.iterdir()) == before
        assert git.line("status", "--porcelain", at=copy.path) == status, "the attempt is not disturbed"
    _, kept_data = sortie(checkpoint, "slow")
    part: Any = kept_data["workspace"]
    uncommitted = part["uncommitted"]
    assert "fault" not in uncommitted, uncommitted
    assert (uncommitted["left_out"], uncommitted["ignored"]) == (["big.bin", "inner/"], ["build/", "some.log"])
    files = git.line("ls-tree", "-rz", "--name-only", uncommitted["commit"], at=copy.mirror).strip("\0").split("\0")
    assert files == [".gitignore", "a b/ü.txt", "app.py", "draft.txt"]
    ref = f"refs/fleet/checkpoints/{checkpoint.ref}/{ids.encode(ids.SORTIE, row.id)}"
    assert refs(mission, ref) == {ref: uncommitted["commit"]}
    restore(checkpoint)
    assert SavedWork.objects.get().commit == uncommitted["commit"]
    assert finish(mission) == "succeeded"
    branch = repository.branch(mission)
    assert branch.read("done.txt") == "half\n"
    assert branch.read("app.py") == "one\n2\nthree\n"
    assert branch.files() == [".gitignore", '"a b/\\303\\274.txt"', "app.py", "done.txt"]
    assert not SavedWork.objects.exists(), "a draft is used only once"
    assert copies.of(sortie=Sortie.objects.get(mission=mission).id, mirror=copy.mirror).path == copy.path


def test_a_restore_captures_the_uncommitted_work_that_it_stops(project: Repository) -> None:
    mission = launch(project, {"slow": {"run": DRAFT.format(work="echo half > draft.txt;", flag="build-ready.log")}})
    start = operations.capture(missions=[mission.id])
    copy = copies.of(sortie=Sortie.objects.get(mission=mission).id, mirror=mirrors.of(str(project.path)))
    with run_until(mission, condition=lambda: (copy.path / "build-ready.log").exists()):
        safety = restore(start).safety
    assert safety is not None
    assert not SavedWork.objects.exists()
    restore(safety)
    work = SavedWork.objects.get()
    assert git.line("show", f"{work.commit}:draft.txt", at=copy.mirror) == "half"


def test_uncommitted_work_that_cannot_be_read_does_not_stop_a_capture(project: Repository) -> None:
    mission = launch(project, {"slow": {"run": DRAFT.format(work="", flag="build-ready.log")}})
    copy = copies.of(sortie=Sortie.objects.get(mission=mission).id, mirror=mirrors.of(str(project.path)))
    with run_until(mission, condition=lambda: (copy.path / "build-ready.log").exists()):
        (copy.engine / "base").write_text("0" * 40)
        copy.index.unlink()
        copy.index.write_text("nothing")
        checkpoint = operations.capture(missions=[mission.id])
    _, kept_data = sortie(checkpoint, "slow")
    part: Any = kept_data["workspace"]
    assert "git" in part["uncommitted"]["fault"]
    restore(checkpoint)
    assert not SavedWork.objects.exists()


def test_uncommitted_work_that_takes_too_long_to_read_does_not_delay_a_capture(
    project: Repository, settings: Any
) -> None:
    settings.FLEET_COMMIT_BYTES, settings.FLEET_CHECKPOINT_WORK_S = 10**10, 0.3
    work = "truncate -s 2G big.bin;"  # git needs many seconds to read it
    mission = launch(project, {"slow": {"run": DRAFT.format(work=work, flag="build-ready.log")}})
    row = Sortie.objects.get(mission=mission)
    copy = copies.of(sortie=row.id, mirror=mirrors.of(str(project.path)))
    with run_until(mission, condition=lambda: (copy.path / "build-ready.log").exists()):
        checkpoint = operations.capture(missions=[mission.id])
        (copy.path / "big.bin").unlink()  # the engine would take just as long
    _, kept_data = sortie(checkpoint, "slow")
    part: Any = kept_data["workspace"]
    assert part["uncommitted"]["fault"].startswith("There was not enough time to read the files of the copy.")
    assert refs(mission, f"refs/fleet/checkpoints/{checkpoint.ref}/{ids.encode(ids.SORTIE, row.id)}") == {}
    assert not list(copy.engine.parent.glob("reader-*"))


def test_a_workload_cannot_delay_its_cancellation_or_its_diff(project: Repository, settings: Any) -> None:
    settings.FLEET_COMMIT_BYTES = 10**11
    work = "truncate -s 9G big.bin;"  # git needs more than a minute to read it
    mission = launch(project, {"slow": {"run": DRAFT.format(work=work, flag="build-ready.log")}})
    row = Sortie.objects.get(mission=mission)
    copy = copies.of(sortie=row.id, mirror=mirrors.of(str(project.path)))
    with run_until(mission, condition=lambda: (copy.path / "build-ready.log").exists()):
        with pytest.raises(errors.Unavailable, match="not enough time to read the files that the attempt is changing"):
            git_diffs.of_copy(copy, deadline=time.monotonic() + 1)
        start = time.monotonic()
        missions.cancel(mission=mission.id)
        took_s = time.monotonic() - start
        (copy.path / "big.bin").unlink()  # the engine would take just as long
    assert took_s < 20

# ruff: noqa: T201  (a program for the terminal)
"""Refuses migrations that would break the last release during an upgrade: `lint_migrations.py [--release]`.

During an upgrade the code of the last release and the new code use the same tables (docs/upgrade.md). So a migration may
only add what the old code can ignore, remove what it does not use, and hold locks briefly. The migrations of the last
release are in scripts/released_migrations.txt, which `--release` writes, as the last step of a release.

If a migration is safe for a reason that this program cannot see, set `reviewed = "reason"` in its class.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RELEASED = ROOT / "scripts" / "released_migrations.txt"
APPS = ("fleet", "agents", "missions", "checkpoints")

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for url in ("DATABASE_URL", "REDIS_URL"):
        os.environ[url] = ""  # no database is needed
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    import django

    django.setup()

from django.contrib.postgres import operations as postgres  # noqa: E402
from django.db import models  # noqa: E402
from django.db.migrations import Migration, operations  # noqa: E402
from django.db.migrations.loader import MigrationLoader  # noqa: E402
from django.db.migrations.operations.base import Operation  # noqa: E402
from django.db.migrations.state import ProjectState  # noqa: E402
from django.db.models.functions import Now  # noqa: E402

from fleet.console import lines  # noqa: E402

HARMLESS = (
    operations.CreateModel,
    operations.AlterModelOptions,
    operations.AlterModelManagers,
    operations.AlterModelTableComment,
    operations.RemoveConstraint,
    postgres.AddIndexConcurrently,
    postgres.RemoveIndexConcurrently,
    postgres.AddConstraintNotValid,
    postgres.ValidateConstraint,
)
REVIEW_HINT = (
    'Have two people check which locks it takes and whether the last release still works, then set reviewed = "reason".'
)


def unreleased(loader: MigrationLoader) -> list[tuple[str, str]]:
    """The migrations that the last release does not have, in the order in which they are applied."""
    released = {tuple(line.split(".", 1)) for line in RELEASED.read_text().split()}
    plan: dict[tuple[str, str], None] = {}
    for leaf in loader.graph.leaf_nodes():
        plan |= dict.fromkeys(loader.graph.forwards_plan(leaf))
    return [key for key in plan if key[0] in APPS and key not in released]


def released_state(loader: MigrationLoader) -> ProjectState:
    """The tables that the code of the last release expects."""
    nodes = [(app, name) for app, _, name in (line.partition(".") for line in RELEASED.read_text().split())]
    return loader.project_state([node for node in nodes if node in loader.graph.nodes])


def problems(migration: Migration, *, before: ProjectState, released: ProjectState) -> Iterator[str]:
    """Why a migration is refused, each reason with what to do instead. `before`: the tables that it starts from."""
    if getattr(migration, "reviewed", ""):
        return
    state = before.clone()
    for operation in migration.operations:
        for problem in _problems(operation, migration, state, released):
            yield f"{migration.app_label}.{migration.name}: {problem}"
        operation.state_forwards(migration.app_label, state)


def _problems(operation: Operation, migration: Migration, state: ProjectState, released: ProjectState) -> Iterator[str]:
    app = migration.app_label
    match operation:
        case operations.SeparateDatabaseAndState():
            yield from _problems_of_separate(operation, migration, state, released)
        case operations.AddField():
            if (app, operation.model_name_lower) in released.models:
                yield from _problems_of_new_field(operation)
        case operations.AlterField():
            if _known(released, app, operation.model_name_lower, operation.name):
                old = state.models[app, operation.model_name_lower].get_field(operation.name)
                yield from _problems_of_changed_field(operation, old)
        case operations.RemoveField() if _known(released, app, operation.model_name_lower, operation.name):
            yield (
                f"drops {operation.model_name}.{operation.name}, which the last release uses. "
                "First release code without it (remove it from the state only), then drop it."
            )
        case operations.DeleteModel() if (app, operation.name_lower) in released.models:
            yield (f"drops {operation.name}, which the last release uses. First release code without it, then drop it.")
        case operations.RenameField() if _known(released, app, operation.model_name_lower, operation.old_name):
            yield (
                f"renames {operation.model_name}.{operation.old_name}, which the last release uses. "
                "Keep the column's name with db_column, or add a new column and copy."
            )
        case operations.RenameModel() if (app, operation.old_name_lower) in released.models:
            yield f"renames the table of {operation.old_name}, which the last release uses. Keep its name with db_table."
        case operations.AlterModelTable() if (app, operation.name_lower) in released.models:
            yield f"renames the table of {operation.name}, which the last release uses."
        case operations.AddIndex() if not isinstance(operation, postgres.AddIndexConcurrently):
            if (app, operation.model_name_lower) in released.models:
                yield (
                    f"builds an index of {operation.model_name} while blocking writes. "
                    "Use AddIndexConcurrently in a migration of its own with atomic = False."
                )
        case operations.RemoveIndex() if not isinstance(operation, postgres.RemoveIndexConcurrently):
            if (app, operation.model_name_lower) in released.models:
                yield f"locks {operation.model_name} to drop an index. Use RemoveIndexConcurrently with atomic = False."
        case operations.AddConstraint() if not isinstance(operation, postgres.AddConstraintNotValid):
            if (app, operation.model_name_lower) in released.models:
                yield from _problems_of_new_constraint(operation)
        case operations.AlterUniqueTogether():
            if (app, operation.name_lower) in released.models and operation.option_value:
                yield f"builds a unique index of {operation.name} while blocking writes."
        case operations.RunPython():
            if migration.atomic or "update_in_batches(" not in inspect.getsource(operation.code):
                yield (
                    "changes rows in one transaction. Use fleet.postgres.batches.update_in_batches in a migration of its "
                    "own with atomic = False."
                )
        case operations.RunSQL():
            yield f"runs SQL. {REVIEW_HINT}"
        case _ if not isinstance(operation, _CHECKED):
            yield f"has the operation {type(operation).__name__}, which this check does not know. {REVIEW_HINT}"


_CHECKED = (
    *HARMLESS,
    operations.RemoveField,
    operations.DeleteModel,
    operations.RenameField,
    operations.RenameModel,
    operations.AlterModelTable,
    operations.AddIndex,
    operations.RemoveIndex,
    operations.RenameIndex,
    operations.AddConstraint,
)


def _known(released: ProjectState, app: str, model: str, field: str) -> bool:
    return (app, model) in released.models and field in released.models[app, model].fields


def _problems_of_separate(
    operation: operations.SeparateDatabaseAndState, migration: Migration, state: ProjectState, released: ProjectState
) -> Iterator[str]:
    for part in operation.database_operations:
        yield from _problems(part, migration, state, released)
    for part in operation.state_operations:
        if isinstance(part, operations.RemoveField) and not operation.database_operations:
            field = state.models[migration.app_label, part.model_name_lower].get_field(part.name)
            if not (field.null or field.has_db_default() or field.many_to_many):
                yield (
                    f"removes {part.model_name}.{part.name} from the code only, but its column still requires a value. "
                    "First make it nullable, or give it a db_default."
                )


def _problems_of_new_field(operation: operations.AddField) -> Iterator[str]:
    field: Any = operation.field
    name = f"{operation.model_name}.{operation.name}"
    if field.many_to_many:
        return
    if not (field.null or field.has_db_default()):
        yield f"adds {name}, for which the last release gives no value. Give it a db_default, or null=True."
    default = field.db_default if field.has_db_default() else None
    if isinstance(default, models.Expression) and not isinstance(default, models.Value | Now):
        yield f"computes {name} for each row, which rewrites the table. Use a constant db_default."
    if isinstance(field, models.GeneratedField):
        yield f"computes {name} for each row, which rewrites the table."
    if field.unique or (field.db_index and not field.is_relation):
        yield f"builds an index of {name} while blocking writes. Add it later, concurrently."
    if field.is_relation and field.db_index:
        yield f"builds an index of {name} while blocking writes. Use db_index=False and add it concurrently."
    if field.is_relation and field.db_constraint:
        yield f"checks each row of {name} while blocking writes to both tables. Use db_constraint=False."


def _problems_of_changed_field(operation: operations.AlterField, old: Any) -> Iterator[str]:
    new: Any = operation.field
    name = f"{operation.model_name}.{operation.name}"
    if _rewrites(old, new):
        yield f"changes the type of {name}, which rewrites the table. Add a column of the new type and copy in batches."
    if old.null and not new.null:
        yield (
            f"makes {name} NOT NULL, although the last release may write NULL, and reads the whole table under a lock. "
            "First release code that always writes it."
        )
    if not new.null and old.has_db_default() and not new.has_db_default():
        yield f"removes the database default of {name}, on which the last release relies."
    if (new.unique and not old.unique) or (new.db_index and not old.db_index):
        yield f"builds an index of {name} while blocking writes. Add it concurrently."


def _rewrites(old: Any, new: Any) -> bool:
    """Whether Postgres has to rewrite the table, or the old code cannot use the column any more."""
    if isinstance(old, models.ForeignKey) or isinstance(new, models.ForeignKey):
        return type(old) is not type(new)
    before, after = old.get_internal_type(), new.get_internal_type()
    texts = ("CharField", "SlugField", "TextField")
    if before in texts and after in texts:
        return after != "TextField" and (before == "TextField" or bool(new.max_length < old.max_length))
    small = ("SmallIntegerField", "PositiveSmallIntegerField")
    return before != after and not (before in small and after in small)


def _problems_of_new_constraint(operation: operations.AddConstraint) -> Iterator[str]:
    if isinstance(operation.constraint, models.CheckConstraint):
        yield (
            f"checks each row of {operation.model_name} while blocking writes. Use AddConstraintNotValid, and "
            "ValidateConstraint in a later migration."
        )
    else:
        yield (
            f"builds a unique index of {operation.model_name} while blocking writes. Build it concurrently, then "
            "attach it with RunSQL."
        )


def lint() -> list[str]:
    loader = MigrationLoader(None)
    released = released_state(loader)
    violations: list[str] = []
    for key in unreleased(loader):
        before = loader.project_state(key, at_end=False)
        violations += problems(loader.graph.nodes[key], before=before, released=released)
    return violations


def main() -> int:
    loader = MigrationLoader(None)
    if sys.argv[1:] == ["--release"]:
        names = sorted(f"{app}.{name}" for app, name in loader.disk_migrations)
        RELEASED.write_text("\n".join(names) + "\n")
        print(f"{RELEASED.relative_to(ROOT)}: {len(names)} migrations")
        return 0
    violations = lint()
    for violation in violations:
        print(violation)
    new = lines.counted(len(unreleased(loader)), "new migration")
    print(f"{new} since the last release, {lines.counted(len(violations), 'problem')}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

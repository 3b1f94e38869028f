"""The linter refuses migrations that would break the last release, and accepts the others."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.postgres import operations as postgres
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import Q
from django.db.models.functions import Now, Random

from fleet.postgres import batches
from scripts import lint_migrations

APP, MODEL = "missions", "sortie"


@pytest.fixture(scope="module")
def loader() -> MigrationLoader:
    return MigrationLoader(None)


def problems(loader: MigrationLoader, *operations: Any, atomic: bool = True, reviewed: str = "") -> list[str]:
    """The problems that the linter reports in a migration with these operations after the released ones."""
    attributes = {"operations": list(operations), "atomic": atomic, "reviewed": reviewed}
    migration = type("Migration", (migrations.Migration,), attributes)("9999_next", APP)
    state = lint_migrations.released_state(loader)
    return list(lint_migrations.problems(migration, before=state, released=state))


def in_one_go(apps: Any, schema_editor: Any) -> None:
    apps.get_model("missions", "Sortie").objects.update(tries=0)


def in_batches(apps: Any, schema_editor: Any) -> None:
    batches.update_in_batches(apps.get_model("missions", "Sortie").objects.filter(tries=1), tries=0)


INDEX = models.Index(fields=["key"], name="sortie_by_key")
CHECK = models.CheckConstraint(name="sortie_tries", condition=Q(tries__gte=0))

UNSAFE = {
    "drops Sortie.tries": migrations.RemoveField("Sortie", "tries"),
    "drops Sortie, which": migrations.DeleteModel("Sortie"),
    "renames Sortie.tries": migrations.RenameField("Sortie", "tries", "efforts"),
    "renames the table of Sortie": migrations.RenameModel("Sortie", "Task"),
    "gives no value": migrations.AddField("Sortie", "size", models.IntegerField(default=0)),
    "rewrites the table. Use a constant": migrations.AddField("Sortie", "luck", models.FloatField(db_default=Random())),
    "builds an index of Sortie.code": migrations.AddField("Sortie", "code", models.TextField(null=True, unique=True)),
    "checks each row of Sortie.parent": migrations.AddField(
        "Sortie", "parent", models.ForeignKey("missions.Mission", models.CASCADE, null=True, db_index=False)
    ),
    "changes the type of Sortie.tries": migrations.AlterField("Sortie", "tries", models.BigIntegerField(default=0)),
    "changes the type of Sortie.key": migrations.AlterField("Sortie", "key", models.CharField(max_length=100)),
    "makes Sortie.ready_at NOT NULL": migrations.AlterField(
        "Sortie", "ready_at", models.DateTimeField(db_default=Now())
    ),
    "removes the database default of Sortie.waits_on": migrations.AlterField(
        "Sortie", "waits_on", models.CharField(max_length=10, default="")
    ),
    "AddIndexConcurrently": migrations.AddIndex("Sortie", INDEX),
    "RemoveIndexConcurrently": migrations.RemoveIndex("Sortie", "sortie_ready"),
    "AddConstraintNotValid": migrations.AddConstraint("Sortie", CHECK),
    "builds a unique index of Sortie": migrations.AddConstraint(
        "Sortie", models.UniqueConstraint(fields=["turn"], name="sortie_turn_once")
    ),
    "changes rows in one transaction": migrations.RunPython(in_one_go),
    "runs SQL": migrations.RunSQL("SELECT 1"),
    "still requires a value": migrations.SeparateDatabaseAndState(
        state_operations=[migrations.RemoveField("Sortie", "tries")]
    ),
    "which this check does not know": migrations.AlterOrderWithRespectTo("Sortie", "mission"),
}


@pytest.mark.parametrize("expected", UNSAFE)
def test_an_unsafe_migration_is_refused(expected: str, loader: MigrationLoader) -> None:
    (problem,) = problems(loader, UNSAFE[expected])
    assert problem.startswith("missions.9999_next: ")
    assert expected in problem


SAFE = {
    "a new table": migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))]),
    "a column that may be NULL": migrations.AddField("Sortie", "size", models.IntegerField(null=True)),
    "a column with a constant of the database": migrations.AddField(
        "Sortie", "size", models.IntegerField(db_default=0)
    ),
    "a column with the time of the migration": migrations.AddField(
        "Sortie", "seen_at", models.DateTimeField(db_default=Now())
    ),
    "a relation without a constraint": migrations.AddField(
        "Sortie",
        "parent",
        models.ForeignKey("missions.Mission", models.CASCADE, null=True, db_index=False, db_constraint=False),
    ),
    "a longer text": migrations.AlterField("Sortie", "key", models.CharField(max_length=300)),
    "a column that may now be NULL": migrations.AlterField("Sortie", "tries", models.SmallIntegerField(null=True)),
    "a column that only the code no longer has": migrations.SeparateDatabaseAndState(
        state_operations=[migrations.RemoveField("Sortie", "wake_at")]
    ),
    "another name in the code": migrations.AlterModelOptions("Sortie", {"verbose_name": "task"}),
}


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_migration_is_accepted(name: str, loader: MigrationLoader) -> None:
    assert problems(loader, SAFE[name]) == []


def test_operations_that_hold_no_lock_for_long_are_accepted(loader: MigrationLoader) -> None:
    assert problems(loader, postgres.AddIndexConcurrently("Sortie", INDEX), atomic=False) == []
    assert problems(loader, postgres.RemoveIndexConcurrently("Sortie", "sortie_ready"), atomic=False) == []
    assert problems(loader, postgres.AddConstraintNotValid("Sortie", CHECK)) == []
    assert problems(loader, migrations.RunPython(in_batches), atomic=False) == []
    assert problems(loader, migrations.RunPython(in_batches)), "within one transaction, batches keep all their locks"


def test_columns_and_tables_that_the_last_release_does_not_know_may_be_removed(loader: MigrationLoader) -> None:
    new_field = migrations.AddField("Sortie", "size", models.IntegerField(null=True))
    assert problems(loader, new_field, migrations.RemoveField("Sortie", "size")) == []
    created = migrations.CreateModel(
        "Thing", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]
    )
    later = migrations.AddIndex("Thing", models.Index(fields=["name"], name="thing_by_name"))
    assert problems(loader, created, later, migrations.DeleteModel("Thing")) == []


def test_a_reviewed_migration_is_accepted(loader: MigrationLoader) -> None:
    assert problems(loader, migrations.RunSQL("SELECT 1"), reviewed="It reads nothing.") == []


def test_the_migrations_of_this_checkout_are_safe() -> None:
    assert lint_migrations.lint() == []

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("missions", "0001_first_release")]
    reviewed = "nothing has been released yet"
    operations = [
        migrations.RenameField("mission", "executes", "can_execute"),
        migrations.RenameField("attempt", "heard_at", "last_activity_at"),
        migrations.RunSQL(
            "UPDATE missions_workspace SET conflicts = 'manual' WHERE conflicts = 'person';"
            "UPDATE missions_conflict SET outcome = 'manual' WHERE outcome = 'person'",
            "UPDATE missions_workspace SET conflicts = 'person' WHERE conflicts = 'manual';"
            "UPDATE missions_conflict SET outcome = 'person' WHERE outcome = 'manual'",
        ),
        migrations.RemoveIndex("conflict", "conflict_open"),
        migrations.AlterField(
            model_name="conflict",
            name="outcome",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "Open"),
                    ("ordered", "Ordered"),
                    ("refused", "Refused"),
                    ("rework", "Rework"),
                    ("manual", "Manual"),
                    ("failed", "Failed"),
                    ("resolved", "Resolved"),
                    ("dropped", "Dropped"),
                ],
                default="",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="conflict",
            index=models.Index(
                condition=models.Q(("outcome__in", ["", "manual"])), fields=["outcome"], name="conflict_open"
            ),
        ),
    ]

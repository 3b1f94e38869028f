from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0002_external_agents_too")]
    reviewed = "nothing has been released yet"
    operations = [
        migrations.RenameField("agent", "place", "ordinal"),
        migrations.AlterField(
            model_name="agent",
            name="crashes",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="Consecutive crashes of its predecessors with the same ordinal."
            ),
        ),
    ]

from django.db import migrations, models

TRIGGERS = ("request", "interval", "progress", "cancel", "restore", "cleanup", "failure", "end", "shutdown", "import")


class Migration(migrations.Migration):
    dependencies = [("checkpoints", "0001_initial")]
    operations = [
        migrations.AlterField(
            "checkpoint",
            "trigger",
            models.CharField(choices=[(trigger, trigger.title()) for trigger in TRIGGERS], max_length=10),
        ),
    ]

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ("missions", "0025_schedules"),
    ]

    operations = [
        migrations.RenameField("mission", "at_once", "max_running"),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("missions", "0026_max_running"),
    ]

    operations = [
        migrations.RenameModel("Tally", "Counter"),
        migrations.RenameModel("TallyMark", "CounterMark"),
        migrations.RemoveConstraint("counter", "tally_once"),
        migrations.AddConstraint(
            "counter",
            models.UniqueConstraint(fields=("series", "subject", "outcome", "bucket"), name="counter_once"),
        ),
    ]

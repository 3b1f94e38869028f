from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0003_time_of_a_seal"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="entry",
            options={"managed": False, "ordering": ["-id"], "verbose_name": "audit entry", "verbose_name_plural": "audit trail"},
        ),
    ]

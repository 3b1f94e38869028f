from django.db import migrations, models

import fleet.values


class Migration(migrations.Migration):
    dependencies = [("missions", "0009_found_quickly")]

    operations = [
        migrations.AlterField(
            model_name="mission", name=name, field=models.JSONField(default=dict, encoder=fleet.values.Encoder)
        )
        for name in ("inputs", "defaults")
    ]

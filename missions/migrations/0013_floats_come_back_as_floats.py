from django.db import migrations, models

import fleet.values


class Migration(migrations.Migration):
    dependencies = [("missions", "0010_admission_and_silence")]

    operations = [
        migrations.AlterField(
            model_name="mission", name=name, field=models.JSONField(default=dict, encoder=fleet.values.Encoder)
        )
        for name in ("inputs", "defaults")
    ]

"""Which key made a key, so that it is revoked with it."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("fleet", "0008_site_uptime")]

    operations = [
        migrations.AddField(
            model_name="key",
            name="maker",
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, to="fleet.key"),
        )
    ]

from django.db import migrations, models

from fleet.postgres import statements


class Migration(migrations.Migration):

    dependencies = [
        ('missions', '0008_which_template'),
    ]

    operations = [
        migrations.RunSQL(statements.read("missions.queries", "mission_name_index"), "DROP INDEX IF EXISTS mission_named"),
        migrations.AddIndex(
            model_name='mission',
            index=models.Index(condition=models.Q(('state__in', ['succeeded', 'failed', 'cancelled'])), fields=['state', 'id'], name='mission_ended'),
        ),
    ]

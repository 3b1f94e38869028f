from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0016_max_agents_and_max_duration_s'),
    ]

    operations = [
        migrations.AddField(
            model_name='node',
            name='types',
            field=models.JSONField(blank=True, default=list, help_text='The agent types that it serves, by name. Empty: every type.'),
        ),
    ]

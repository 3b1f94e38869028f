from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("agents", "0019_plainer_help_texts"),
    ]

    operations = [
        migrations.RenameField("agent", "flying", "running"),
        migrations.RenameField("agent", "flown", "settled"),
        migrations.RenameField("node", "places", "max_agents"),
        migrations.AlterField(
            "agenttype",
            "max_agents",
            models.PositiveSmallIntegerField(
                default=0,
                help_text="Maximum number of agents of this type in the whole fleet; 0: limited only by what the nodes allow.",
            ),
        ),
    ]

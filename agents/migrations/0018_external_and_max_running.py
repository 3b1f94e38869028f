from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("agents", "0017_types_of_a_node"),
    ]

    operations = [
        migrations.RenameField("agenttype", "outside", "external"),
        migrations.RenameField("agenttype", "at_once", "max_running"),
        migrations.AlterField(
            "agenttype",
            "max_running",
            models.PositiveIntegerField(
                default=0,
                help_text="Maximum in the whole fleet; 0: limited only by its agents' slots. Sorties that already run are not stopped.",
                verbose_name="running sorties",
            ),
        ),
    ]

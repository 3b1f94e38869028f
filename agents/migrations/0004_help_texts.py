from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0003_agent_ordinal")]
    operations = [
        migrations.AlterField(
            model_name="agent",
            name="reaped",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="It has ended, and its node has confirmed that no process of its workloads is left.",
            ),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="disk_mb",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Limit for the scratch folder and the copy of the repository of one attempt, together; 0: 10 GB.",
                verbose_name="disk (MB)",
            ),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="env_allow",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Names of the host's environment variables that are passed to the workload.",
            ),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="env_secret",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Names of further variables to pass, whose values are redacted in everything that the workload "
                "reports. Values of the variables above are redacted if their names look like secrets (API_KEY, TOKEN …).",
            ),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="max_running",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Maximum number of sorties of this type that run at once in the whole fleet; 0: limited only by "
                "its agents' slots. Sorties that are running are not stopped.",
            ),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="network",
            field=models.BooleanField(default=True, help_text="Whether the workload has access to the network."),
        ),
        migrations.AlterField(
            model_name="agenttype",
            name="readable",
            field=models.JSONField(
                blank=True,
                default=list,
                help_text="Absolute paths on the host that the workload may read, and run in, besides its own folders.",
            ),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("agents", "0012_reaped")]

    operations = [
        migrations.AddField(
            model_name="agenttype",
            name="env_secret",
            field=models.JSONField(
                default=list,
                blank=True,
                help_text="Names of further such variables, whose values are hidden in all that the work says. Those above are "
                "hidden too where their names look like those of secrets (API_KEY, TOKEN …).",
            ),
        ),
    ]

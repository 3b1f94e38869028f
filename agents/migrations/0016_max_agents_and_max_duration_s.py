from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0015_help_texts'),
    ]

    operations = [
        migrations.RenameField(model_name='agenttype', old_name='most_agents', new_name='max_agents'),
        migrations.RenameField(model_name='agenttype', old_name='longest_s', new_name='max_duration_s'),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0013_secret_variables'),
    ]

    operations = [
        migrations.AddField(
            model_name='agenttype',
            name='readable',
            field=models.JSONField(blank=True, default=list, help_text='Absolute paths on its hosts that the work of this type may read, and start in, beside its own folders.'),
        ),
        migrations.AddField(
            model_name='agenttype',
            name='network',
            field=models.BooleanField(default=True, help_text='Whether the work of this type reaches the network at all.'),
        ),
        migrations.AlterField(
            model_name='agenttype',
            name='memory_mb',
            field=models.PositiveIntegerField(default=0, help_text="What one attempt's processes may hold together, at most; 0: 4 GB, or half of the host's if that is less.", verbose_name='memory (MB)'),
        ),
        migrations.AlterField(
            model_name='agenttype',
            name='disk_mb',
            field=models.PositiveIntegerField(default=0, help_text='What one attempt may write to its own folder; 0: 10 GB.', verbose_name='disk (MB)'),
        ),
    ]

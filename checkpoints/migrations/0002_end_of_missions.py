from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('checkpoints', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='checkpoint',
            name='trigger',
            field=models.CharField(choices=[('request', 'Request'), ('interval', 'Interval'), ('progress', 'Progress'), ('cancel', 'Cancel'), ('restore', 'Restore'), ('cleanup', 'Cleanup'), ('failure', 'Failure'), ('end', 'End'), ('shutdown', 'Shutdown'), ('import', 'Import')], max_length=10),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('agents', '0010_registered_by'),
    ]

    operations = [
        migrations.AddField(
            model_name='agent',
            name='reaped',
            field=models.BooleanField(db_default=False, default=False, editable=False, help_text='It has ended, and it was seen on its host that nothing of its work runs any more.'),
        ),
    ]

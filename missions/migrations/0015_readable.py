from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('missions', '0014_no_planning'),
    ]

    operations = [
        migrations.AddField(
            model_name='mission',
            name='readable',
            field=models.JSONField(db_default=[], default=list),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0011_names_in_the_admin'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='answer',
            name='answer_once',
        ),
        migrations.RenameField(
            model_name='answer',
            old_name='asker',
            new_name='caller',
        ),
        migrations.AddConstraint(
            model_name='answer',
            constraint=models.UniqueConstraint(fields=('caller', 'key'), name='answer_once'),
        ),
    ]

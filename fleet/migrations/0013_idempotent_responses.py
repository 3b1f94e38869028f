from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("fleet", "0012_caller_of_an_answer"),
    ]

    operations = [
        migrations.RenameModel("Answer", "IdempotentResponse"),
        migrations.RenameIndex("idempotentresponse", "idempotent_response_by_age", old_name="answer_by_age"),
        migrations.RemoveConstraint("idempotentresponse", "answer_once"),
        migrations.AddConstraint(
            "idempotentresponse",
            models.UniqueConstraint(fields=("caller", "key"), name="idempotent_response_once"),
        ),
    ]

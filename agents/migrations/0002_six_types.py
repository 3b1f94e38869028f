from django.db import migrations

TYPES = {
    "backend": "Services, APIs, data: the code behind the screen.",
    "documentation": "What people read: guides, references, changelogs.",
    "frontend": "What people see and click: pages, styles, accessibility.",
    "performance": "Where the time and the memory go.",
    "security": "What could be misused, and secrets where they do not belong.",
    "testing": "Whether it does what it says.",
}


def seed(apps, schema_editor):
    agent_type = apps.get_model("agents", "AgentType")
    for name, description in TYPES.items():
        agent_type.objects.get_or_create(name=name, defaults={"description": description})


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]

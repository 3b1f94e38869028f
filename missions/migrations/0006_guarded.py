from django.conf import settings
from django.db import migrations

from fleet.audit.guarding import Guard


class Migration(migrations.Migration):

    dependencies = [
        ("missions", "0005_access"),
        ("agents", "0001_initial"),
        ("fleet", "0004_audit_trail"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        Guard("missions_mission", "missions_sortie", "agents_agenttype", "auth_user", "fleet_account", "fleet_key"),
    ]

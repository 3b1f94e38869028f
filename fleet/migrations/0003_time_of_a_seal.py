from django.db import migrations

from fleet.postgres import statements

# The trail belongs to a role of its own once it is protected.
BECOME_OWNER = """
DO $$ BEGIN
    EXECUTE format('SET LOCAL ROLE %I', (
        SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE oid = 'fleet_audit.accept_seal'::regproc
    ));
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("fleet", "0002_uptime_heartbeat_at")]
    reviewed = "replaces a function, which locks no table; the last release writes seals that it accepts"
    operations = [
        migrations.RunSQL(BECOME_OWNER, migrations.RunSQL.noop),
        migrations.RunSQL(statements.read("fleet", "audit_accept_seal"), migrations.RunSQL.noop),
        migrations.RunSQL("RESET ROLE", migrations.RunSQL.noop),
    ]

-- Create the application's role, or set its password. `verifier` is its SCRAM verifier, not the password itself.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
        CREATE ROLE {role} LOGIN;
    END IF;
END $$;
ALTER ROLE {role} PASSWORD {verifier};

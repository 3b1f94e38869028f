-- Create the application's role, or set its password. The text of the password is its SCRAM verifier.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN
        CREATE ROLE {role} LOGIN;
    END IF;
END $$;
ALTER ROLE {role} PASSWORD {verifier};

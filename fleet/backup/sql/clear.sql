-- Remove all objects of the fleet from the database, in the transaction that restores them.
SET LOCAL ROLE NONE;
DROP SCHEMA IF EXISTS fleet_audit CASCADE;
DROP SCHEMA IF EXISTS public CASCADE;
RESET ROLE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO PUBLIC;

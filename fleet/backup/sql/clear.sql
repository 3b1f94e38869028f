-- Remove everything that the fleet has in the database. In the transaction that restores it.
SET LOCAL ROLE NONE;
DROP SCHEMA IF EXISTS fleet_audit CASCADE;
DROP SCHEMA IF EXISTS public CASCADE;
RESET ROLE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO PUBLIC;

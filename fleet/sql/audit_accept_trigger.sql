CREATE TRIGGER accept BEFORE INSERT ON fleet_audit.seal FOR EACH ROW EXECUTE FUNCTION fleet_audit.accept_seal();
ALTER TABLE fleet_audit.seal ENABLE ALWAYS TRIGGER accept;

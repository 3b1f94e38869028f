-- Mark the database until the restore has ended: the fleet does not start on it, and the restore can be repeated.
CREATE TABLE public.fleet_unfinished_restore AS SELECT %(backup)s AS backup;

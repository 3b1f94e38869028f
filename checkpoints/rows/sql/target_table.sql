-- The sorties that a restore changes or creates, as the checkpoint has them.
CREATE TEMPORARY TABLE checkpoint_target (
    sortie uuid PRIMARY KEY,
    created boolean NOT NULL,
    wait_until timestamptz,  -- when processes of earlier attempts are gone, at the latest
    state jsonb NOT NULL,
    kept jsonb NOT NULL,
    changes jsonb NOT NULL  -- parts of the state that a fork replaces
) ON COMMIT DROP;

-- ANALYZE reads a sample of 300 rows per unit. The planner needs the number of rows, not their distribution.
ALTER TABLE checkpoint_target ALTER sortie SET STATISTICS 1, ALTER created SET STATISTICS 1

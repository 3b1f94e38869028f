-- Agent types that the sorties of a checkpoint need and this fleet does not have.
SELECT DISTINCT state ->> 'type' FROM checkpoint_target
WHERE state ->> 'type' NOT IN (SELECT name FROM agents_agenttype)
ORDER BY 1

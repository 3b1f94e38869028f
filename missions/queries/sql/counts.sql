-- How many sorties of each of these missions are in each state.
SELECT mission_id, state, count(*) FROM missions_sortie WHERE mission_id = ANY (%(missions)s) GROUP BY mission_id, state

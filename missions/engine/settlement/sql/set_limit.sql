-- Set the limit of a concurrency key that exists. It is raised only for `new` sorties (NULL: there are none), if no
-- others with the key are unfinished.
UPDATE missions_concurrencykey
SET "limit" = %(limit)s
WHERE key = %(key)s
  AND ("limit" > %(limit)s
       OR "limit" < %(limit)s AND %(new)s::uuid[] IS NOT NULL
          AND NOT EXISTS (SELECT FROM missions_sortie s
                          WHERE s.concurrency_key = %(key)s
                            AND NOT @missions.sortie_has_ended(s)
                            AND s.id <> ALL (%(new)s::uuid[])))

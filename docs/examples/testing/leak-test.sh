#!/bin/sh
# Fails a pipeline when a tenant's border leaks. Run it against a copy of the schema, migrated as in production and with production's roles,
# as a superuser; PGHOST, PGDATABASE and so on say where.
#
#   0  every attempt was held
#   1  something leaked: each leak is printed
#   2  nothing could be said: no connection, no extension, or no protected table that was tried
set -u

report=$(psql -X -q -A -t -v ON_ERROR_STOP=1 -F ' | ' <<'SQL'
SELECT result, relation, role, attempt, detail FROM bulkhead.leak_test() ORDER BY result, relation, role, attempt
SQL
) || { echo "leak test: could not be run" >&2; exit 2; }

count() { printf '%s\n' "$report" | grep -c "^$1 | "; }
held=$(count held) leaked=$(count leaked) skipped=$(count skipped)

printf '%s\n' "$report" | grep '^leaked | '
# What was not tried is not proved: read it now and then.
printf '%s\n' "$report" | grep '^skipped | ' | cut -d '|' -f 2- | sort | uniq -c | sort -rn | head -20
echo "leak test: $leaked leaked, $held held, $skipped skipped"

[ "$leaked" -eq 0 ] || exit 1
[ "$held" -gt 0 ] || { echo "leak test: no protected table was tried" >&2; exit 2; }

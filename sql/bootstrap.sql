-- First of all: the schema must be ours. Whoever owns a schema may replace what is in it, so one that another role
-- made in advance would hand that role every function the policies call.
DO $bootstrap$
DECLARE
  foreign_owner name;
BEGIN
  SELECT pg_catalog.pg_get_userbyid(n.nspowner) INTO foreign_owner
    FROM pg_catalog.pg_namespace n
   WHERE n.nspname OPERATOR(pg_catalog.=) 'bulkhead'
     AND n.nspowner OPERATOR(pg_catalog.<>)
         (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
     -- A superuser's is no trap: that is what pg_restore leaves when another superuser runs it.
     AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) n.nspowner);
  IF FOUND THEN
    RAISE EXCEPTION 'schema "bulkhead" already exists and belongs to role "%"', foreign_owner
      USING ERRCODE = '55000',
            DETAIL = 'Its owner could replace the functions that policies call.',
            HINT = 'Look at what is in it, then drop it: DROP SCHEMA bulkhead.';
  END IF;
END
$bootstrap$;

COMMENT ON SCHEMA bulkhead IS 'Bulkhead: multi-tenancy inside the database';
GRANT USAGE ON SCHEMA bulkhead TO PUBLIC;

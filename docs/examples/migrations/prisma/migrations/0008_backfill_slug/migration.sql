-- One tenant at a time, each in a transaction of its own. Alone in its migration, or it could not commit.
DO $$
DECLARE
  tenant text;
BEGIN
  FOR tenant IN SELECT id FROM tenant ORDER BY id LOOP
    PERFORM bulkhead.set_tenant(tenant);
    UPDATE task SET slug = lower(title) WHERE slug IS NULL;
    COMMIT;
  END LOOP;
END $$;

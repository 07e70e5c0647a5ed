-- What the two sessions of a comparison call between the script's statements. The same in both databases; what only the sealed one needs is
-- asked for by arguments. Each function begins with pinned names, and fails into a text instead of an error: the script's transaction goes on.
CREATE SCHEMA twin;
GRANT USAGE ON SCHEMA twin TO PUBLIC;

CREATE TABLE twin.adopted (
    relation oid PRIMARY KEY,
    rows text NOT NULL DEFAULT '',     -- digest of tenant a's rows when the canaries were planted
    canaries text NOT NULL DEFAULT '', -- digest of tenant b's, which nothing may change
    planted bigint NOT NULL DEFAULT 0,
    near boolean NOT NULL DEFAULT false, -- their keys may be in the way of rows to come
    note text
);

-- The column `tenant` for every table that has come since, and protection.
CREATE FUNCTION twin.adopt(sealed boolean, bare boolean) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    t record;
    required boolean;
    failed text;
BEGIN
    DELETE FROM twin.adopted a WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = a.relation);
    FOR t IN
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.reloftype = 0
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'bulkhead', 'twin')
          AND NOT EXISTS (SELECT FROM twin.adopted d WHERE d.relation = c.oid)
        ORDER BY c.oid
    LOOP
        failed := NULL;
        -- A parent of the same round has given it to its children by now.
        SELECT a.attnotnull INTO required FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'tenant' AND NOT a.attisdropped;
        BEGIN
            IF required IS NULL THEN
                EXECUTE format('ALTER TABLE %s ADD COLUMN tenant text NOT NULL DEFAULT ''a''', t.name);
            ELSE
                EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN tenant SET DEFAULT ''a''', t.name);
                IF NOT required THEN
                    EXECUTE format('ALTER TABLE %s ALTER COLUMN tenant SET NOT NULL', t.name);
                END IF;
            END IF;
            -- A plain database of one tenant's has no other's rows; sealed, that is the seal's work.
            IF NOT sealed AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.conname = 'one_tenant') THEN
                EXECUTE format('ALTER TABLE %s ADD CONSTRAINT one_tenant CHECK (tenant = ''a'')', t.name);
                -- protect() makes one, and its name may be in the way of others.
                EXECUTE format('CREATE INDEX ON %s (tenant)', t.name);
            END IF;
            IF sealed THEN
                PERFORM bulkhead.protect(t.oid::regclass, 'tenant');
                IF bare THEN
                    -- The script's own policies are to decide for its roles: what is left is the seal.
                    EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', t.name);
                    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', t.name);
                    EXECUTE format('DROP POLICY IF EXISTS bulkhead_tenant ON %s', t.name);
                END IF;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            failed := SQLERRM;
        END;
        INSERT INTO twin.adopted (relation, note) VALUES (t.oid, failed);
        RETURN NEXT t.name || coalesce(': ' || failed, '');
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RETURN NEXT 'adopt: ' || SQLERRM;
END $$;

-- The tables that a statement may have written: what it names with what descends from it, and all that are small.
CREATE FUNCTION twin.looked_at(statement text) RETURNS SETOF oid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE named AS (
        SELECT c.oid FROM pg_class c
        WHERE c.relname = ANY ((SELECT regexp_split_to_array(lower(statement), '[^a-z0-9_]+'))::text[])
        UNION
        SELECT i.inhrelid FROM named JOIN pg_inherits i ON i.inhparent = named.oid
    )
    SELECT c.oid FROM twin.adopted a JOIN pg_class c ON c.oid = a.relation
    WHERE c.relkind = 'r' AND a.note IS NULL AND (pg_relation_size(c.oid) < 40960 OR c.oid IN (SELECT oid FROM named))
    ORDER BY c.oid
$$;

-- Count and digest of the rows of one table that the session sees; no child's. What the script has set says nothing here.
CREATE FUNCTION twin.digest(relation oid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET datestyle = 'ISO' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET timezone = 'UTC' AS $$
DECLARE
    digest text;
BEGIN
    EXECUTE format('SELECT count(*) || '' '' || coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text COLLATE "C")), '''') FROM ONLY %s t',
                   relation::regclass) INTO digest;
    RETURN digest;
END $$;

CREATE FUNCTION twin.contents(statement text) RETURNS TABLE (name text, digest text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT o::regclass::text, twin.digest(o) FROM twin.looked_at(statement) o;
EXCEPTION WHEN OTHERS THEN
    RETURN QUERY SELECT 'contents', SQLERRM;
END $$;

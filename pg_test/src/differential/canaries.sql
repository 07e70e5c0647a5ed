-- Rows of tenant b beside tenant a's, in the sealed database only. They are made from a's: the same where no unique index asks for other
-- keys, so that whoever counts or joins too many is told; and once more with other values, so that DISTINCT and EXISTS are.

-- Everything in here acts as b, and past triggers, rules and foreign keys.
CREATE FUNCTION twin.as_b(statement text, rows text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET session_replication_role = replica SET bulkhead.tenant_context = 'b' AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE statement USING rows;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;

CREATE FUNCTION twin.digest_of_b(relation oid) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET bulkhead.tenant_context = 'b' AS $$ SELECT twin.digest(relation) $$;

-- A column's value for a canary: as it is, or moved away.
CREATE FUNCTION twin.moved(attribute pg_attribute, near boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN t.oid IN ('int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'float8'::regtype, 'float4'::regtype)
            THEN format('(y.x).%I + %s', attribute.attname, CASE WHEN near THEN 1 ELSE 1000003 END)
        WHEN t.oid = 'int2'::regtype THEN format('((y.x).%I + %s)::int2', attribute.attname, CASE WHEN near THEN 1 ELSE 17011 END)
        WHEN t.typcategory = 'S' THEN format('((y.x).%I || ''~b'')::%s', attribute.attname, format_type(attribute.atttypid, attribute.atttypmod))
        WHEN t.oid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
            THEN format('((y.x).%I + interval ''%s'')::%s', attribute.attname, CASE WHEN near THEN '1 day' ELSE '400 years' END, t.oid::regtype)
        ELSE format('(y.x).%I', attribute.attname)
    END
    FROM pg_type t
    WHERE t.oid = (SELECT CASE WHEN b.typtype = 'd' THEN b.typbasetype ELSE b.oid END FROM pg_type b WHERE b.oid = attribute.atttypid)
$$;

-- INSERT of a's rows ($1, as text) as b's. `which`: no column moved, those of unique indexes and foreign keys, or all.
CREATE FUNCTION twin.insert_statement(relation oid, which text, near boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH keys AS (
        SELECT unnest(i.indkey) AS attnum FROM pg_index i WHERE i.indrelid = relation AND (i.indisunique OR i.indisexclusion)
        UNION SELECT unnest(c.conkey) FROM pg_constraint c WHERE c.conrelid = relation AND c.contype = 'f'
    )
    SELECT format('INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM unnest($1) r, LATERAL (SELECT r::%s AS x OFFSET 0) y ON CONFLICT DO NOTHING',
        relation::regclass,
        string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
        string_agg(CASE
            WHEN a.attname = 'tenant' THEN '''b'''
            WHEN which = 'all' OR which = 'keys' AND a.attnum IN (SELECT attnum FROM keys) THEN twin.moved(a, near)
            ELSE format('(y.x).%I', a.attname) END, ', ' ORDER BY a.attnum),
        relation::regclass)
    FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
$$;

-- All rows at once, or as many as go in one by one.
CREATE FUNCTION twin.plant_as(statement text, rows text[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint := 0;
BEGIN
    BEGIN
        RETURN twin.as_b(statement, rows);
    EXCEPTION WHEN OTHERS THEN
        n := 0;
    END;
    FOR i IN 1 .. least(cardinality(rows), 50) LOOP
        BEGIN
            n := n + twin.as_b(statement, rows[i:i]);
        EXCEPTION WHEN OTHERS THEN
            CONTINUE;
        END;
    END LOOP;
    RETURN n;
END $$;

CREATE FUNCTION twin.uproot(relation oid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT twin.as_b(format('DELETE FROM ONLY %s', relation::regclass), NULL);
    UPDATE twin.adopted a SET canaries = twin.digest_of_b($1), planted = 0, rows = '', near = false WHERE a.relation = $1;
$$;

CREATE FUNCTION twin.plant(relation oid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 SET datestyle = 'ISO' SET intervalstyle = 'postgres'
SET bytea_output = 'hex' SET timezone = 'UTC' AS $$
DECLARE
    rows text[];
    n bigint;
    beside boolean := false;
    has_keys boolean := EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND (i.indisunique OR i.indisexclusion))
                     OR EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = $1 AND c.contype = 'f');
BEGIN
    PERFORM twin.uproot($1);
    EXECUTE format('SELECT array_agg(t::text) FROM ONLY %s t', $1::regclass) INTO rows;
    IF rows IS NULL THEN
        UPDATE twin.adopted a SET rows = twin.digest($1) WHERE a.relation = $1;
        RETURN;
    END IF;
    n := twin.plant_as(twin.insert_statement($1, CASE WHEN has_keys THEN 'keys' ELSE 'none' END, false), rows);
    n := n + twin.plant_as(twin.insert_statement($1, 'all', false), rows);
    IF n = 0 THEN
        n := twin.plant_as(twin.insert_statement($1, 'keys', true), rows);
        beside := true;
    END IF;
    UPDATE twin.adopted a SET rows = twin.digest($1), canaries = twin.digest_of_b($1), planted = n, near = beside WHERE a.relation = $1;
END $$;

-- Before a statement that writes, canaries whose keys may be in its way are taken out; before DDL all that it might meet: an index or a new
-- type is made of every tenant's rows.
CREATE FUNCTION twin.before(statement text, is_ddl boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM twin.uproot(o) FROM twin.looked_at(statement) o JOIN twin.adopted a ON a.relation = o
    WHERE a.near OR is_ddl AND a.planted > 0 AND strpos(lower(statement), (SELECT relname FROM pg_class WHERE oid = o)) > 0;
EXCEPTION WHEN OTHERS THEN
    NULL;
END $$;

-- After it: which tables' canaries it has changed; and new ones where a's rows are others.
CREATE FUNCTION twin.after(statement text, may_change boolean) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT a.*, twin.digest_of_b(o) AS now FROM twin.looked_at(statement) o JOIN twin.adopted a ON a.relation = o LOOP
        IF NOT may_change AND t.canaries <> '' AND t.now <> t.canaries THEN
            RETURN NEXT t.relation::regclass || ': rows of tenant b were changed';
        END IF;
        IF t.now <> t.canaries OR twin.digest(t.relation) <> t.rows THEN
            PERFORM twin.plant(t.relation);
        END IF;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RETURN NEXT 'after: ' || SQLERRM;
END $$;

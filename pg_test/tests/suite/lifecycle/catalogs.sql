-- Everything about the objects of the schema {schema}, a fact a line: what a dump, an upgrade or a restore could lose. No numbers,
-- and nothing that a newer server has by itself: the privilege MAINTAIN, NOT NULL as a constraint.
CREATE FUNCTION pg_temp.rights(given aclitem[], kind "char", owner oid) RETURNS text LANGUAGE sql AS $$
  SELECT string_agg(one, ',' ORDER BY one COLLATE "C")
    FROM (SELECT regexp_replace(a::text, '=([a-zA-Z*]*)m', '=\1') FROM unnest(coalesce(given, acldefault(kind, owner))) AS a) AS x (one) $$;
WITH space AS (SELECT * FROM pg_namespace WHERE nspname = '{schema}'),
relation AS (SELECT c.oid AS id, c.* FROM pg_class c JOIN space n ON n.oid = c.relnamespace WHERE NOT c.relispartition OR {partitions}),
fact(fact) AS (
  SELECT format('schema of %s, acl %s', nspowner::regrole, pg_temp.rights(nspacl, 'n', nspowner)) FROM space
  UNION ALL
  SELECT format('relation %s %s of %s, row security %s %s, %s, options %s, identity %s, partition %s by %s, acl %s', relkind, relname,
                relowner::regrole, relrowsecurity, relforcerowsecurity, relpersistence, reloptions, relreplident,
                pg_get_expr(relpartbound, id), CASE relkind WHEN 'p' THEN pg_get_partkeydef(id) END,
                pg_temp.rights(relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM relation WHERE relkind NOT IN ('i', 'I')
  UNION ALL
  SELECT format('column %s %s.%s %s, not null %s, identity %s, generated %s, collation %s, storage %s, default %s, acl %s',
                row_number() OVER (PARTITION BY id ORDER BY attnum), relname, attname, format_type(atttypid, atttypmod), attnotnull,
                attidentity, attgenerated, attcollation::regcollation, attstorage, pg_get_expr(adbin, adrelid), attacl)
    FROM relation JOIN pg_attribute a ON a.attrelid = id LEFT JOIN pg_attrdef d ON adrelid = id AND adnum = attnum
   WHERE attnum > 0 AND NOT attisdropped AND relkind NOT IN ('i', 'I')
  UNION ALL
  SELECT format('index %s, valid %s, primary %s', pg_get_indexdef(indexrelid), indisvalid, indisprimary)
    FROM relation JOIN pg_index ON indrelid = id
  UNION ALL
  SELECT format('constraint %s of %s: %s, validated %s', conname, relname, pg_get_constraintdef(c.oid), convalidated)
    FROM relation JOIN pg_constraint c ON conrelid = id WHERE contype <> 'n'
  UNION ALL
  SELECT format('policy %s of %s for %s, permissive %s, to %s, using %s, check %s', polname, relname, polcmd, polpermissive,
                polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM relation JOIN pg_policy ON polrelid = id
  UNION ALL
  SELECT format('trigger %s, enabled %s', pg_get_triggerdef(t.oid), tgenabled) FROM relation JOIN pg_trigger t ON tgrelid = id
   WHERE NOT tgisinternal
  UNION ALL
  SELECT format('inherits %s from %s', inhrelid::regclass, inhparent::regclass) FROM relation JOIN pg_inherits ON inhrelid = id
   WHERE relkind NOT IN ('i', 'I')
  UNION ALL
  SELECT format('view %s: %s', relname, pg_get_viewdef(id)) FROM relation WHERE relkind = 'v'
  UNION ALL
  SELECT format('sequence %s %s', relname, to_jsonb(s) - 'seqrelid') FROM relation JOIN pg_sequence s ON seqrelid = id
  UNION ALL
  SELECT format('function %s %s(%s) returns %s in %s of %s: %s %s %s strict %s definer %s leakproof %s cost %s rows %s set %s acl %s, %s %s',
                prokind, proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), lanname, proowner::regrole,
                provolatile, proparallel, proretset, proisstrict, prosecdef, proleakproof, procost, prorows, proconfig,
                pg_temp.rights(proacl, 'f', proowner), probin, coalesce(pg_get_function_sqlbody(p.oid), prosrc))
    FROM pg_proc p JOIN space n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
  UNION ALL
  SELECT format('type %s %s of %s', typtype, typname, typowner::regrole) FROM pg_type t JOIN space n ON n.oid = typnamespace
   WHERE typrelid = 0 AND typelem = 0
  UNION ALL
  SELECT format('event trigger %s on %s, enabled %s, tags %s, of %s, %s', evtname, evtevent, evtenabled, evttags, evtowner::regrole, evtfoid::regproc)
    FROM pg_event_trigger
  UNION ALL
  SELECT format('comment on %s: %s', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description
   WHERE (classoid = 'pg_class'::regclass AND objoid IN (SELECT id FROM relation))
      OR (classoid = 'pg_proc'::regclass AND objoid IN (SELECT p.oid FROM pg_proc p JOIN space n ON n.oid = pronamespace))
      OR (classoid = 'pg_namespace'::regclass AND objoid IN (SELECT oid FROM space))
      OR (classoid = 'pg_type'::regclass AND objoid IN (SELECT t.oid FROM pg_type t JOIN space n ON n.oid = typnamespace))
      OR (classoid = 'pg_trigger'::regclass AND objoid IN (SELECT t.oid FROM relation JOIN pg_trigger t ON tgrelid = id))
      OR (classoid = 'pg_constraint'::regclass AND objoid IN (SELECT c.oid FROM relation JOIN pg_constraint c ON conrelid = id))
      OR classoid IN ('pg_extension'::regclass, 'pg_policy'::regclass, 'pg_event_trigger'::regclass)
  UNION ALL
  SELECT format('extension %s %s in %s of %s, relocatable %s', extname, extversion, extnamespace::regnamespace, extowner::regrole, extrelocatable)
    FROM pg_extension
  UNION ALL
  SELECT format('dumped %s %s', t::regclass, extcondition[i])
    FROM pg_extension, unnest(extconfig) WITH ORDINALITY AS c (t, i)
  UNION ALL
  SELECT format('member %s', pg_describe_object(classid, objid, objsubid)) FROM pg_depend
   -- A newer server counts the types of rows and arrays among them.
   WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass
  UNION ALL
  SELECT format('rights at first on %s: %s %s', pg_describe_object(classoid, objoid, objsubid), privtype,
                pg_temp.rights(initprivs, 'r', 10))
    FROM pg_init_privs
   WHERE (classoid = 'pg_class'::regclass AND objoid IN (SELECT id FROM relation))
      OR (classoid = 'pg_proc'::regclass AND objoid IN (SELECT p.oid FROM pg_proc p JOIN space n ON n.oid = pronamespace))
  UNION ALL
  SELECT format('rights by default of %s on %s: %s', defaclrole::regrole, defaclobjtype, defaclacl) FROM pg_default_acl
   WHERE defaclnamespace IN (SELECT oid FROM space)
)
SELECT fact FROM fact ORDER BY fact COLLATE "C"

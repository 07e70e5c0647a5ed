-- Views and functions of a superuser, whom row level security does not bind: what the seal is for. The functions are the caller's to call.
CREATE VIEW of_the_admin AS SELECT a.name, o.note, o.amount FROM accounts a FULL JOIN orders o USING (tenant_id, id);
CREATE VIEW rows_of_the_admin AS SELECT v AS visit, v.page FROM visits v;
GRANT SELECT ON of_the_admin, rows_of_the_admin TO app, svc, owner;
CREATE FUNCTION admin_names() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS 'SELECT string_agg(name, '','' ORDER BY name) FROM accounts';
CREATE FUNCTION admin_count(text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM notes WHERE peek(body) AND body > $1' INTO n USING $1; RETURN n; END $$;
CREATE FUNCTION admin_moves(bigint) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$ DECLARE was text; BEGIN UPDATE documents SET title = title || 'x' WHERE id = $1 RETURNING body INTO was; RETURN was; END $$;

-- What PostgREST calls; run by the tables' owner, after orders.sql. `app` is the role of requests.

-- db-pre-request: runs first in each request's transaction, as the role of the request.
CREATE FUNCTION pass_tenant() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  headers json := pg_catalog.current_setting('request.headers', true);
BEGIN
  IF headers ->> 'authorization' ILIKE 'bearer %' THEN
    PERFORM bulkhead.set_tenant(pg_catalog.substr(headers ->> 'authorization', 8));
  ELSIF headers ->> 'x-tenant' <> '' THEN
    -- A bare id, and only where a gateway sets this header and lets no client's through. Otherwise leave it out.
    PERFORM bulkhead.set_tenant(headers ->> 'x-tenant');
  END IF;
END $$;

-- POST /rpc/post_order with an Idempotency-Key: the parameter without a name is the whole body.
CREATE FUNCTION post_order(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  body ALIAS FOR $1;
  key text := current_setting('request.headers', true)::json ->> 'idempotency-key';
  claim record;
  answer jsonb;
BEGIN
  SELECT * INTO claim FROM bulkhead.idempotency_claim(key, bulkhead.request_fingerprint('POST', '/orders', body));
  IF claim.state = 'started' THEN
    INSERT INTO orders (item, quantity) VALUES (body ->> 'item', (body ->> 'quantity')::integer)
      RETURNING jsonb_build_object('id', id, 'item', item, 'quantity', quantity) INTO answer;
    PERFORM bulkhead.idempotency_complete(key, 201, answer, claim.fence);
  END IF;
  PERFORM set_config('response.status', (CASE claim.state
    WHEN 'started' THEN 201 WHEN 'replay' THEN claim.status WHEN 'in_progress' THEN 409 ELSE 422 END)::text, true);
  RETURN CASE claim.state
    WHEN 'started' THEN answer
    WHEN 'replay' THEN claim.response
    WHEN 'in_progress' THEN '{"detail": "a request with this Idempotency-Key is being worked on"}'
    ELSE '{"detail": "this Idempotency-Key was used for another request"}' END;
END $$;

-- POST /rpc/sell: after an error or `pending` ask again with the same order id.
CREATE FUNCTION sell(order_id text, item text, quantity bigint) RETURNS TABLE (verdict text, remaining bigint) LANGUAGE sql AS $$
  SELECT told.verdict, told.remaining FROM bulkhead.decrement_now('stock', order_id, item, quantity) AS told;
$$;

GRANT SELECT, INSERT ON orders TO app;
GRANT SELECT, UPDATE ON stock TO app;

-- Leads as forms send them, and one made up for the story.
CREATE TABLE leads (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id text NOT NULL,
  document jsonb NOT NULL,
  score numeric,
  status text NOT NULL DEFAULT 'pending_score',
  rules_version integer
);
CREATE INDEX ON leads (tenant_id) WHERE status = 'pending_score';
GRANT SELECT, INSERT, UPDATE ON leads TO app;
CREATE FUNCTION a_lead(n bigint) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$
  SELECT jsonb_build_object(
      'name', 'Person ' || n, 'email_domain', (ARRAY['gmail.com', 'acme.example', 'gmx.de', 'widgets.example'])[1 + h % 4],
      'utm_source', (ARRAY['google', 'linkedin', 'direct', 'partner', 'other'])[1 + h / 3 % 5], 'utm_medium', (ARRAY['cpc', 'organic', 'email'])[1 + h / 7 % 3],
      'country', (ARRAY['DE', 'FR', 'US', 'BR', 'CH'])[1 + h / 11 % 5], 'budget', h % 30000, 'visits', h % 12, 'pages', '["home", "price"]'::jsonb,
      'company', jsonb_build_object('name', 'Company ' || n, 'employees', h % 1500), 'industry', (ARRAY['software', 'finance', 'farming'])[1 + h / 13 % 3],
      'role', (ARRAY['owner', 'director', 'engineer', 'student'])[1 + h / 17 % 4], 'form', (ARRAY['demo', 'trial', 'contact'])[1 + h / 19 % 3],
      'answers', jsonb_build_array(jsonb_build_object('question', 'when', 'answer', (ARRAY['now', 'later'])[1 + h % 2])))
    FROM (SELECT abs(hashint8(n)::bigint) AS h) AS hashed
$$;

-- A field service system: two companies by a short text id, their jobs, and the calls on each job.
-- No index on the tenant column: protect() makes one.

CREATE TABLE companies (
  id   text PRIMARY KEY,
  name text NOT NULL
);

CREATE TABLE jobs (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  company_id text        NOT NULL REFERENCES companies,
  address    text        NOT NULL,
  task       text        NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE service_calls (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  company_id text        NOT NULL REFERENCES companies,
  job_id     bigint      NOT NULL,
  note       text        NOT NULL,
  called_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO companies VALUES ('h2o', 'H2O Plumbing'), ('all_county', 'All County Heating');

INSERT INTO jobs (company_id, address, task, created_at)
SELECT (ARRAY['h2o','all_county'])[1 + (n + n / 3) % 2],
       format('%s %s Street', 1 + n * 13 % 240, (ARRAY['Mill','River','Station','Church','Park'])[1 + n % 5]),
       (ARRAY['leaking tap','no heating','new boiler','blocked drain'])[1 + n * 3 % 4],
       timestamptz '2026-01-01 08:00+00' + n * interval '5 minutes'
  FROM generate_series(1, 20000) AS n;

INSERT INTO service_calls (company_id, job_id, note, called_at)
SELECT company_id, id, (ARRAY['on my way','done'])[part], created_at + part * interval '1 hour'
  FROM jobs, generate_series(1, 2) AS part;

CREATE INDEX ON jobs (created_at);
ANALYZE companies, jobs, service_calls;

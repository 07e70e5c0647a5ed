-- An AI chat for sales teams: eight workspaces by number, and their messages in monthly partitions.

CREATE TABLE workspaces (
  id   bigint PRIMARY KEY,
  name text   NOT NULL
);

CREATE TABLE messages (
  workspace_id bigint      NOT NULL,
  id           bigint      GENERATED ALWAYS AS IDENTITY,
  author       text        NOT NULL,
  body         text        NOT NULL,
  sent_at      timestamptz NOT NULL,
  PRIMARY KEY (workspace_id, sent_at, id)
) PARTITION BY RANGE (sent_at);

CREATE TABLE messages_2026_01 PARTITION OF messages FOR VALUES FROM ('2026-01-01+00') TO ('2026-02-01+00');
CREATE TABLE messages_2026_02 PARTITION OF messages FOR VALUES FROM ('2026-02-01+00') TO ('2026-03-01+00');

INSERT INTO workspaces SELECT n, format('workspace %s', n) FROM generate_series(1, 8) AS n;

INSERT INTO messages (workspace_id, author, body, sent_at)
SELECT 1 + (n * 5 + n / 10) % 8,
       (ARRAY['agent','lead'])[1 + n % 2],
       (ARRAY['shall we talk on Monday?','what does it cost?','I will send the offer','call me back'])[1 + n % 4],
       timestamptz '2026-01-01 08:00+00' + n * interval '1 minute'
  FROM generate_series(1, 60000) AS n;

CREATE INDEX ON messages (sent_at);
ANALYZE workspaces, messages;

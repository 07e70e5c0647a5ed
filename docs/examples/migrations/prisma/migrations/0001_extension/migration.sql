-- A superuser has installed it, in this database or in template1, and this says so.
CREATE EXTENSION IF NOT EXISTS bulkhead;

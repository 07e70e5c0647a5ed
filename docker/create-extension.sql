-- Run once, in POSTGRES_DB, when the image makes a new data directory. pg_cron has to keep its jobs in that database (cron.database_name).
CREATE EXTENSION bulkhead;
CREATE EXTENSION pg_cron;
SELECT bulkhead.schedule_maintenance();

-- One transaction: first what takes long and locks little, then, for a moment, what locks everybody out.
SET lock_timeout = '2s';
ALTER TABLE "task" VALIDATE CONSTRAINT bulkhead_not_null;
ALTER TABLE "task" ALTER COLUMN "tenant_id" SET NOT NULL;
ALTER TABLE "task" DROP CONSTRAINT bulkhead_not_null;
SELECT bulkhead.protect('task');
RESET lock_timeout;

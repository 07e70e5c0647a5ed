SET lock_timeout = '2s';
ALTER TABLE "task" ADD CONSTRAINT bulkhead_not_null CHECK ("tenant_id" IS NOT NULL) NOT VALID;
RESET lock_timeout;

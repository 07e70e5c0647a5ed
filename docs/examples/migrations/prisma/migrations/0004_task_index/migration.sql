-- Alone in its migration: Prisma sends a migration as one string, and several statements in it would be one transaction.
CREATE INDEX CONCURRENTLY IF NOT EXISTS "task_tenant" ON "task"("tenant_id", "id");

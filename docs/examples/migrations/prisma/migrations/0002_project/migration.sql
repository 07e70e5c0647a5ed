CREATE TABLE "tenant" (
    "id" TEXT NOT NULL,

    CONSTRAINT "tenant_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "project" (
    "id" SERIAL NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT bulkhead.tenant_id_text(),
    "name" TEXT NOT NULL,

    CONSTRAINT "project_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "project_tenant" ON "project"("tenant_id", "id");

-- Written by hand: what Prisma has no words for.
SELECT bulkhead.share('tenant');
SELECT bulkhead.protect('project');

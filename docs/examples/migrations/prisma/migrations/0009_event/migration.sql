CREATE TABLE "event" (
    "at" TIMESTAMPTZ(6) NOT NULL,
    "id" INTEGER NOT NULL,
    "tenant_id" TEXT NOT NULL DEFAULT bulkhead.tenant_id_text(),

    CONSTRAINT "event_pkey" PRIMARY KEY ("at", "id")
) PARTITION BY RANGE ("at");

CREATE INDEX "event_tenant" ON "event"("tenant_id", "at");

SELECT bulkhead.protect('event');
SELECT bulkhead.manage_partitions('event', every => '1 day', retain => '90 days');

-- A table that was there before Bulkhead, has many rows, and gets more while we work on it.
CREATE TABLE "task" (
    "id" SERIAL NOT NULL,
    "tenant_id" TEXT,
    "title" TEXT NOT NULL,

    CONSTRAINT "task_pkey" PRIMARY KEY ("id")
);

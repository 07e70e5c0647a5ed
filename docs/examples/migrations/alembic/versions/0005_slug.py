"""A column that is filled for one tenant at a time, each in a transaction of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BACKFILL = """
DO $$
DECLARE
  tenant text;
BEGIN
  FOR tenant IN SELECT id FROM tenant ORDER BY id LOOP
    PERFORM bulkhead.set_tenant(tenant);
    UPDATE task SET slug = lower(title) WHERE slug IS NULL;
    COMMIT;
  END LOOP;
END $$
"""


def upgrade():
    op.add_column("task", sa.Column("slug", sa.Text))
    with op.get_context().autocommit_block():
        op.execute(BACKFILL)


def downgrade():
    op.drop_column("task", "slug")

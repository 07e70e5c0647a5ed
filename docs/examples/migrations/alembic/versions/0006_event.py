"""A table in partitions that bulkhead.maintain() makes and drops."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade():
    op.create_table(
        "event",
        sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("id", sa.Integer, autoincrement=False, primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        postgresql_partition_by="RANGE (at)",
    )
    op.create_index("event_tenant", "event", ["tenant_id", "at"])
    op.execute("SELECT bulkhead.protect('event')")
    op.execute("SELECT bulkhead.manage_partitions('event', every => '1 day', retain => '90 days')")


def downgrade():
    op.execute("SELECT bulkhead.unmanage_partitions('event')")
    op.drop_table("event")

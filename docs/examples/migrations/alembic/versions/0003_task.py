"""A table that was there before Bulkhead, has many rows, and gets more while we work on it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    op.create_table(
        "task",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("tenant_id", sa.Text),
        sa.Column("title", sa.Text, nullable=False),
    )


def downgrade():
    op.drop_table("task")

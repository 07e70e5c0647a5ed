"""New tables: one that all tenants read, and one that is protected from its first row on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("tenant", sa.Column("id", sa.Text, primary_key=True))
    op.execute("SELECT bulkhead.share('tenant')")

    op.create_table(
        "project",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_index("project_tenant", "project", ["tenant_id", "id"])
    op.execute("SELECT bulkhead.protect('project')")


def downgrade():
    op.drop_table("project")
    op.drop_table("tenant")

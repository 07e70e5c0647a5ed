"""The extension: a superuser has installed it, in this database or in template1, and this says so."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.execute("CREATE EXTENSION IF NOT EXISTS bulkhead")


def downgrade():
    pass

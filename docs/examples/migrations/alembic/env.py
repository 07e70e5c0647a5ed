import os

from alembic import context
from models import Base
from sqlalchemy import create_engine, text

# Straight to the server, as the tables' owner, and never through a pooler of transactions.
engine = create_engine(os.environ["MIGRATE_URL"])  # postgresql+psycopg://…

with engine.connect() as connection:
    partitions = set(connection.scalars(text("SELECT relname FROM pg_class WHERE relispartition")))
    connection.rollback()

    def include_name(name, type_, parent_names):
        """What bulkhead makes by itself, and no model describes: its schema, and the partitions that maintain() makes."""
        return name != "bulkhead" if type_ == "schema" else not (type_ == "table" and name in partitions)

    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=include_name,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()

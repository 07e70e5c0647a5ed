from datetime import datetime

from sqlalchemy import DateTime, Identity, Index, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {str: Text}


class OfTenant:
    # The default that protect() gives the column.
    tenant_id: Mapped[str] = mapped_column(server_default=func.bulkhead.tenant_id_text())


class Tenant(Base):
    __tablename__ = "tenant"

    id: Mapped[str] = mapped_column(primary_key=True)


class Project(OfTenant, Base):
    __tablename__ = "project"
    # The index that protect() asks for, declared here: what it finds it does not make, and nothing is there to report.
    __table_args__ = (Index("project_tenant", "tenant_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]


class Task(OfTenant, Base):
    __tablename__ = "task"
    __table_args__ = (Index("task_tenant", "tenant_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    title: Mapped[str]
    slug: Mapped[str | None]


class Event(OfTenant, Base):
    __tablename__ = "event"
    __table_args__ = (
        Index("event_tenant", "tenant_id", "at"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    id: Mapped[int] = mapped_column(autoincrement=False, primary_key=True)

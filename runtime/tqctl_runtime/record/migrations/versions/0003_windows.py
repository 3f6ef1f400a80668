"""Unique windows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "windows",
        sa.Column("fingerprint", KEY, nullable=False),
        sa.Column("task_id", KEY, nullable=False),
        sa.Column("ends_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="windows_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("windows_ends", "windows", ["ends_at"])

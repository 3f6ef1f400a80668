"""Results of checks over time, and recovery events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "health",
        sa.Column("name", KEY, nullable=False),
        sa.Column("at", BIG, nullable=False, autoincrement=False),
        sa.Column("since", BIG, nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("seen_at", BIG, nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "at", name="health_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("health_seen", "health", ["seen_at"])
    op.create_table(
        "recoveries",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("length_ms", BIG, nullable=True),
        sa.PrimaryKeyConstraint("id", name="recoveries_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("recoveries_at", "recoveries", ["at"])

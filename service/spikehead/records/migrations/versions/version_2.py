"""Version 2: the tables of deleted spans of ids, and of processes that write records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    by_bytes = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "records_forgotten",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True
        ),
        sa.Column("first", by_bytes, nullable=False),
        sa.Column("last", by_bytes, nullable=False),
        sa.Column("clock", sa.Double, nullable=False),
    )
    op.create_index("records_forgotten_clock", "records_forgotten", ["clock"])
    op.create_index("records_forgotten_last", "records_forgotten", ["last"])
    op.create_table(
        "records_writers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("seen", sa.Double, nullable=False),
    )

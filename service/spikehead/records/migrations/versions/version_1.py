"""Version 1: the table of records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    by_bytes = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "records",
        sa.Column("id", by_bytes, primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("prediction", sa.SmallInteger, nullable=False),
        sa.Column("confidence", sa.Double, nullable=False),
        sa.Column("steps_used", sa.SmallInteger, nullable=False),
        sa.Column("stopped_by", sa.Text, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("image", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )
    for column in ("model", "prediction", "confidence", "steps_used"):
        op.create_index(f"records_{column}", "records", [column, "id"])

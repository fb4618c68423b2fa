"""Alembic's entry: see openqrm.persistence.migrations."""

from openqrm.persistence.migrations import run

run()

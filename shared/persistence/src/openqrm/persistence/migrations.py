"""Brings a service's schema to the newest revision when the service starts; replicas take turns."""

from importlib.resources import files
from zlib import crc32

from alembic import command, context
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from openqrm.contracts.errors import PermanentError
from openqrm.persistence.database import Database, first_line, is_refusal


async def migrate(database: Database, package: str) -> None:
    """Run the Alembic revisions that lie in `package`/migrations, in one transaction under a lock.

    Raises PermanentError when PostgreSQL refuses the service's user, its password or its database.
    """
    config = Config()
    folder = str(files(package).joinpath("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))  # Alembic takes % for a placeholder
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = database.schema

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    try:
        async with database.transaction() as connection:
            # Another replica's turn, or a large table, may take longer than any statement of the service itself.
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": crc32(b"openqrm migrations")})
            known = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
            if (await connection.execute(known, {"name": database.schema})).scalar_one_or_none() is None:
                # Not IF NOT EXISTS: that asks for the right to create one even where an administrator has made it.
                await connection.execute(text(f'CREATE SCHEMA "{database.schema}"'))
            await connection.run_sync(upgrade)
    except DBAPIError as error:
        if is_refusal(error):
            raise PermanentError(
                f"PostgreSQL does not let {database.schema} work: {first_line(error)}. "
                "Check the user, the password and the database in its DSN."
            ) from error
        raise


def run() -> None:
    """What each `migrations/env.py` calls."""
    attributes = context.config.attributes
    context.configure(connection=attributes["connection"], version_table_schema=attributes["schema"])
    context.run_migrations()

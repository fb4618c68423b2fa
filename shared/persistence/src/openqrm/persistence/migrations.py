"""Brings a service's schema to the newest revision when the service starts; replicas take turns."""

from importlib.resources import files
from zlib import crc32

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from openqrm.persistence.database import Database


async def migrate(database: Database, package: str) -> None:
    """Run the Alembic revisions that lie in `package`/migrations/versions, in one transaction under a lock."""
    config = Config()
    config.set_main_option("script_location", str(files(package).joinpath("migrations")))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)

    def upgrade(connection: Connection) -> None:
        with EnvironmentContext(
            config, script, fn=lambda revision, _: script._upgrade_revs("head", revision)
        ) as context:
            context.configure(connection=connection, version_table_schema=database.schema)
            context.run_migrations()

    async with database.transaction() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": crc32(b"openqrm migrations")})
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{database.schema}"'))
        await connection.run_sync(upgrade)

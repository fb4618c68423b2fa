"""The migrations make what the code believes to be there, in each schema that somebody owns."""

from collections.abc import Callable

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from support.control_plane import ControlPlane

from openqrm.inventory.adapters.tables import metadata
from openqrm.persistence.database import Database
from openqrm.persistence.migrations import migrate


def _difference(of: MetaData) -> Callable[[Connection], list[object]]:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        ours = {table.name for table in of.tables.values()}
        return [
            change
            for change in compare_metadata(context, of)
            if not (isinstance(change, tuple) and change[0] == "remove_table" and change[1].name not in ours)
        ]

    return compare


async def test_inventorys_tables_are_those_of_its_migrations(plane: ControlPlane) -> None:
    database = Database(plane.dsn, "inventory", 3)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(_difference(metadata)) == []
    await database.close()


async def test_migrating_again_changes_nothing(plane: ControlPlane) -> None:
    database = Database(plane.dsn, "inventory", 3)
    await migrate(database, "openqrm.inventory")
    await database.ping()
    await database.close()

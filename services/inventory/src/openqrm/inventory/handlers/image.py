"""Commands on images."""

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit
from uuid import UUID

from sqlalchemy import delete, insert, select

from openqrm.contracts.errors import FieldProblem, InvalidError, NotFoundError
from openqrm.contracts.ids import is_id, new_id
from openqrm.contracts.image import DeleteImage, ImageDeleted, ImageRegistered, ImageView, RegisterImage
from openqrm.contracts.operation import TargetKind
from openqrm.inventory import engine
from openqrm.inventory.adapters.tables import images
from openqrm.inventory.domain.operation import Operation
from openqrm.inventory.inventory import Inventory
from openqrm.inventory.transaction import Transaction
from openqrm.inventory.views.image import row_to_view


async def register_image(inventory: Inventory, command: RegisterImage) -> None:
    """Make an image known whose bytes lie at its location."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        _check_location(command.location)
        view = ImageView(
            id=command.image_id or new_id(),
            revision=1,
            name=command.name,
            description=command.description,
            format=command.format,
            size_bytes=command.size_bytes,
            virtual_size_mib=command.virtual_size_mib,
            sha256=command.sha256,
            location=command.location,
            created_at=tx.now,
        )
        operation.target_id = view.id
        await tx.execute(insert(images).values(**view.model_dump() | {"format": view.format.value}))
        tx.send(ImageRegistered(image=view, operation_id=operation.id), view.id)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.IMAGE, command.name, use_case)


def _check_location(location: str) -> None:
    parts = urlsplit(location)
    problem = None
    if parts.scheme == "file":
        path = PurePosixPath(unquote(parts.path))
        if parts.netloc or not path.is_absolute() or ".." in path.parts or parts.query or parts.fragment:
            problem = "must be file:/// and the whole path of a file on the executor's machine, without .."
    elif not parts.hostname:
        problem = "has no server in it"
    if problem is None and any(ord(character) < 32 for character in unquote(location)):
        problem = "has control characters in it"
    if problem:
        raise InvalidError(
            f"The location {problem}. Give a file:///… or https://… address.",
            fields=(FieldProblem(field="location", message=problem),),
        )


async def delete_image(inventory: Inventory, command: DeleteImage) -> None:
    """Forget an image."""

    async def use_case(tx: Transaction, operation: Operation) -> None:
        which = images.c.id == UUID(command.image) if is_id(command.image) else images.c.name == command.image
        row = (await tx.execute(select(images).where(which).with_for_update())).one_or_none()
        if row is None:
            raise NotFoundError(f"There is no image {command.image!r}. List the images to see which there are.")
        operation.target_id, operation.target_name = row.id, row.name
        await tx.execute(delete(images).where(images.c.id == row.id))
        tx.send(ImageDeleted(image=row_to_view(row), operation_id=operation.id), row.id)
        engine.succeed_at_once(tx, operation)

    await engine.submit(inventory, command, TargetKind.IMAGE, command.image, use_case)

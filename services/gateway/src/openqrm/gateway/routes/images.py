"""Images: uploaded through the gateway, then registered with inventory."""

from typing import Annotated, Any
from uuid import uuid5

from fastapi import Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from openqrm.contracts.errors import DuplicateError, OpenQrmError, ProblemCode, TemporaryError
from openqrm.contracts.image import DeleteImage, GetImage, ImageDeleted, ListImages, RegisterImage
from openqrm.contracts.operation import OperationView
from openqrm.contracts.paging import MAX_PAGE, Paging
from openqrm.contracts.states import OperationState
from openqrm.gateway.bodies import body_model
from openqrm.gateway.commands import operation_response, wish_of
from openqrm.gateway.events.event import LiveEvent
from openqrm.gateway.guard import note_of
from openqrm.gateway.images import ImageFolder
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import Wait
from openqrm.gateway.uploads import discard, open_upload

TAG = "images"
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "format": {"enum": ["qcow2", "raw", "iso"]},
                        "sha256": {"type": "string"},
                        "file": {"type": "string", "format": "binary", "description": "The last field"},
                    },
                }
            },
        },
    }
}


def add(nouns: Nouns, folder: ImageFolder) -> None:
    """Add the routes."""
    told_model = body_model(
        RegisterImage, {"image_id", "format", "size_bytes", "virtual_size_mib", "sha256", "location"}
    )

    async def upload(
        request: Request,
        name: Annotated[str | None, Query(description="The image's name; here, or as a field of the form")] = None,
        description: Annotated[str | None, Query()] = None,
        format: Annotated[str | None, Query(description="qcow2, raw or iso; recognised when left out")] = None,  # noqa: A002 - the API's word
        sha256: Annotated[str | None, Query(description="Refuse the upload when its bytes do not have it")] = None,
        wait: Wait = 0,
    ) -> Response:
        """Upload an image.

        The body is the file itself (application/octet-stream) or a form (multipart/form-data) whose last field `file`
        is the file. It is streamed to disk, so its size is limited by the disk only; its format is recognised; qcow2
        with a backing file is refused. Publishes the command `image.register` when all has come.
        """
        wish = wish_of(request, wait)
        note = note_of(request)
        note.verb = RegisterImage.subject
        coming = await open_upload(request)
        try:
            values: dict[str, Any] = {
                "name": name, "description": description, "format": format, "sha256": sha256
            }  # fmt: skip
            values = {**coming.fields, **{key: value for key, value in values.items() if value is not None}}
            note.target = values.get("name", "")
            told, image_format, digest = _check(told_model, values)
            folder.check_room(coming.size)
            if known := await nouns.commands.known(RegisterImage, wish):
                await discard(coming.chunks, 2)
                return operation_response(known, wish)
            await _refuse_duplicate(nouns, note.target)
            image = await folder.store(coming.chunks, digest, image_format, coming.size)
        except Exception:
            await discard(coming.chunks, 2)
            raise
        command = RegisterImage(
            operation_id=wish.operation_id,
            requested_by=wish.user,
            image_id=uuid5(wish.operation_id, "image"),
            format=image.format,
            size_bytes=image.size_bytes,
            virtual_size_mib=image.virtual_size_mib,
            sha256=image.sha256,
            location=image.location,
            **told.model_dump(exclude_unset=True),
        )
        note.operation_id = wish.operation_id
        try:
            operation = await nouns.commands.carry_out(command, wish, note.target)
        except TemporaryError:
            raise  # it may have been taken: the bytes must stay
        except Exception:
            if image.is_new:
                await folder.remove(image.path)
            raise
        if operation.state is OperationState.FAILED and image.is_new:
            await folder.remove(image.path)
        return operation_response(operation, wish)

    nouns.many("/images", ListImages, tag=TAG)
    nouns.routes.add(
        "POST",
        "/images",
        upload,
        tag=TAG,
        status=202,
        answer=OperationView,
        fails=(409, 507),
        extra=_UPLOAD,
        responses={200: {"model": OperationView, "description": "The operation has ended (with `wait`)"}},
    )
    nouns.one("/images/{ref}", GetImage, "image", tag=TAG)
    nouns.command("DELETE", "/images/{ref}", DeleteImage, tag=TAG, from_path={"ref": "image"})


def _check(model: type[BaseModel], values: dict[str, Any]) -> tuple[BaseModel, Any, str | None]:
    """What the client told, checked by the contract's own rules before a single byte is stored."""
    rules = RegisterImage.model_fields
    told = model.model_validate({name: values[name] for name in model.model_fields if name in values})
    wanted = {name: values[name] for name in ("format", "sha256") if values.get(name)}
    checker = body_model(RegisterImage, set(rules) - set(wanted))
    checked = checker.model_validate(
        {name: value.lower() if name == "sha256" else value for name, value in wanted.items()}
    )
    return told, getattr(checked, "format", None), getattr(checked, "sha256", None)


async def _refuse_duplicate(nouns: Nouns, name: str) -> None:
    """Before gigabytes are sent for nothing; the last word is inventory's."""
    try:
        image = await nouns.questions.ask(GetImage(image=name))
    except OpenQrmError as error:
        if error.code is ProblemCode.NOT_FOUND:
            return
        raise
    raise DuplicateError(
        f"There is an image {image.name!r} already. Choose another name, or delete that one first.",
        details={"image_id": str(image.id)},
    )


class ImageJanitor:
    """Deletes an image's bytes when its last image was deleted."""

    def __init__(self, nouns: Nouns, folder: ImageFolder) -> None:
        self._nouns = nouns
        self._folder = folder

    def wants(self, event: LiveEvent) -> bool:
        """Whether an event can mean work."""
        return event.subject == ImageDeleted.subject

    async def clean(self, event: LiveEvent) -> None:
        """Delete the file of a deleted image, unless another image is made of the same bytes."""
        image = ImageDeleted.model_validate_json(event.body).image
        path = self._folder.owns(image.location)
        if path is not None and image.location not in {other.location async for other in self._all()}:
            await self._folder.remove(path)

    async def _all(self) -> Any:
        cursor: str | None = None
        while True:
            page = await self._nouns.questions.ask(ListImages(paging=Paging(limit=MAX_PAGE, cursor=cursor)))
            for image in page.items:
                yield image
            cursor = page.next_cursor
            if cursor is None:
                return

"""What is read only: all resources in one list, and the technologies."""

from starlette.responses import Response

from openqrm.contracts.resource import GetResource, ListResources
from openqrm.contracts.technology import ListTechnologies, TechnologyList
from openqrm.gateway.routes.nouns import Nouns
from openqrm.gateway.routing import json_response


def add(nouns: Nouns) -> None:
    """Add the routes."""

    async def technologies() -> Response:
        """Which technologies are known, what they can do, how full their MAC namespaces are."""
        found = await nouns.questions.ask(ListTechnologies())
        return json_response(found)

    nouns.many("/resources", ListResources, tag="resources")
    nouns.one("/resources/{ref}", GetResource, "resource", tag="resources")
    nouns.routes.add(
        "GET", "/technologies", technologies, tag="technologies", answer=TechnologyList, summary="All technologies"
    )

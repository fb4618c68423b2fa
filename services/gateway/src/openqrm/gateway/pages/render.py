"""Plain pages: the one at `/` with the login, and the API's documentation. No script, nothing from other servers."""

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from starlette.responses import HTMLResponse

STYLE = files("openqrm.gateway.pages").joinpath("style.css").read_text(encoding="utf-8")

_METHODS = ("get", "post", "put", "patch", "delete")


def page(title: str, body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """A whole page."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/style.css"></head><body>{body}</body></html>',
        status,
        {"Cache-Control": "no-store", **(headers or {})},
    )


def login_page(error: str | None = None, status: int = 200, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """What runs here, and the way in."""
    complaint = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
    return page(
        "openQRM",
        "<h1>openQRM</h1><p>Data-centre manager: servers, services and storage apart. This is its API.</p>"
        f"{complaint}"
        '<form method="post" action="/api/v1/session">'
        '<label>User <input name="user" autocomplete="username" required autofocus></label>'
        '<label>Password <input name="password" type="password" autocomplete="current-password" required></label>'
        "<button>Log in and read the API's documentation</button></form>"
        "<p>Programs send a token: <code>Authorization: Bearer oqrm_…</code>. "
        "On the command line: <code>openqrm login</code>, then <code>openqrm --help</code>.</p>",
        status,
        headers,
    )


def docs_page(document: Mapping[str, Any]) -> HTMLResponse:
    """The API's documentation, from its OpenAPI document."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                by_tag.setdefault(operation["tags"][0], []).append(_operation(document, method, path, operation))
    index = " · ".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag in by_tag)
    sections = "".join(
        f'<h2 id="{_anchor(tag)}">{escape(tag)}</h2>{"".join(entries)}' for tag, entries in by_tag.items()
    )
    about = "".join(f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    return page(
        "openQRM API",
        f"<h1>openQRM API</h1>{about}<p>For programs: <a href='/api/v1/openapi.json'>OpenAPI</a>, "
        f"<a href='/api/v1/asyncapi'>AsyncAPI</a> (the messages on the bus).</p><p>{index}</p>{sections}",
    )


def _anchor(tag: str) -> str:
    return escape(tag.replace(" ", "-"))


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    text = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n") if part)
    return (
        f'<details><summary><b class="method">{method.upper()}</b><code>{escape(path)}</code>'
        f"<span>{escape(operation.get('summary', ''))}</span></summary>{text}"
        f"{_parameters(operation)}{_body(document, operation)}{_answers(operation)}</details>"
    )


def _parameters(operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td><td>{escape(_type(p.get('schema', {})))}</td>"
        f"<td>{escape(p.get('description') or p.get('schema', {}).get('description') or '')}</td></tr>"
        for p in operation.get("parameters", ())
    )
    return f"<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>{rows}</table>" if rows else ""


def _body(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return ""
    schema = _resolve(document, content["application/json"]["schema"])
    required = schema.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' (needed)' if name in required else ''}</td>"
        f"<td>{escape(_type(field))}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    table = f"<table><tr><th>field</th><th>type</th><th></th></tr>{rows}</table>" if rows else ""
    examples = "".join(
        f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
        for example in schema.get("examples", ())
    )
    return table + examples


def _answers(operation: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(answer.get('description', ''))}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    return f"<table><tr><th>answer</th><th></th></tr>{rows}</table>"


def _resolve(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for part in (schema, *schema.get("anyOf", ())):
        if "$ref" in part:
            found: Mapping[str, Any] = document["components"]["schemas"][part["$ref"].rsplit("/", 1)[1]]
            return found
    return schema


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    limits = [f"≥ {schema['minimum']}"] if "minimum" in schema else []
    limits += [f"≤ {schema['maximum']}"] if "maximum" in schema else []
    kind = str(schema.get("type", ""))
    if kind == "array":
        kind = f"list of {_type(schema.get('items', {})) or 'anything'}"
    return f"{kind} {' '.join(limits)}".strip()

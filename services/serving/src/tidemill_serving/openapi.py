"""The OpenAPI 3.1 document of what serving answers over HTTP."""

from typing import Any

from tidemill_serving.domain.tensor import DATATYPES

Document = dict[str, Any]
_SCALAR: Document = {"type": ["string", "number", "boolean"]}
_PARAMETERS: Document = {"type": "object", "additionalProperties": _SCALAR}
_STRING: Document = {"type": "string"}
_SHAPE: Document = {"type": "array", "items": {"type": "integer", "minimum": -1}, "minItems": 1, "maxItems": 2}


def document(version: str) -> Document:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidemill serving",
            "version": version,
            "description": "Open Inference Protocol v2 (REST) for the champions of all pipelines.",
        },
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "scope `predict`"}},
        },
        "security": [{"key": []}, {}],
    }


def _paths() -> Document:
    paths: Document = {
        "/v2": {"get": _operation("server_metadata", "Server metadata", "Server")},
        "/v2/health/live": {"get": _operation("server_live", "The process turns", "Live")},
        "/v2/health/ready": {"get": _operation("server_ready", "It consumes", "Ready", unready="Ready")},
        "/v2/openapi.json": {"get": _operation("openapi", "This document", None)},
        "/v2/repository/index": {"post": _operation("repository_index", "Models and versions at hand", "Index")},
    }
    name = {"name": "name", "in": "path", "required": True, "schema": _STRING, "description": "the pipeline"}
    of = {"name": "version", "in": "path", "required": True, "schema": _STRING, "description": "one that is loaded"}
    for base, suffix, where in (("", "", [name]), ("/versions/{version}", "_version", [name, of])):
        path = f"/v2/models/{{name}}{base}"
        paths[path] = {"get": _operation(f"model_metadata{suffix}", "Model metadata", "Model", parameters=where)}
        paths[f"{path}/ready"] = {
            "get": _operation(f"model_ready{suffix}", "Whether the newest promotion answers", "Ready", parameters=where)
        }
        infer = _operation(f"infer{suffix}", "Inference", "InferenceResponse", parameters=where, codes=(400, 413, 500))
        infer["requestBody"] = {"required": True, "content": _content("InferenceRequest")}
        paths[f"{path}/infer"] = {"post": infer}
        explain = _operation(
            f"explain{suffix}", "Contributions", "InferenceResponse", parameters=where, codes=(400, 413, 500)
        )
        explain["requestBody"] = {"required": True, "content": _content("InferenceRequest")}
        paths[f"{path}/explain"] = {"post": explain}
    return paths


def _content(schema: str | None) -> Document:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"} if schema else {}}}


def _operation(
    id_: str,
    summary: str,
    schema: str | None,
    *,
    parameters: list[Document] | None = None,
    codes: tuple[int, ...] = (),
    unready: str = "Error",
) -> Document:
    meaning = {
        400: "The request cannot be understood, or a row is refused",
        401: "An API key is needed",
        403: "The key has no scope `predict`",
        404: "No such model or version, or nothing to explain it against",
        413: "The body is too large",
        429: "Too many requests",
        500: "The model failed on these rows",
        503: "No model yet, or the newest promotion was refused",
    }
    errors = {401, 403, 413, 429, *codes} | ({404, 503} if parameters else set())
    responses: Document = {"200": {"description": summary, "content": _content(schema)}}
    responses |= {str(c): {"description": meaning[c], "content": _content("Error")} for c in sorted(errors)}
    if unready != "Error":
        responses["503"] = {"description": "Not ready", "content": _content(unready)}
    found: Document = {"operationId": id_, "summary": summary, "responses": responses}
    if parameters:
        found["parameters"] = parameters
    return found


def _object(required: tuple[str, ...], **properties: Document) -> Document:
    return {"type": "object", "required": list(required), "properties": properties}


def _list(items: Document) -> Document:
    return {"type": "array", "items": items}


def _schemas() -> Document:
    datatype: Document = {"type": "string", "enum": list(DATATYPES)}
    described = _object(("name", "datatype", "shape"), name=_STRING, datatype=datatype, shape=_SHAPE)
    data = {"type": "array", "description": "flat in row-major order, or nested by row; null is a missing value"}
    tensor = _object(
        ("name", "datatype", "shape", "data"),
        name=_STRING,
        datatype=datatype,
        shape=_SHAPE,
        data=data,
        parameters=_PARAMETERS,
    )
    output = _object(("name",), name=_STRING, parameters=_PARAMETERS)
    answered: Document = {"$ref": "#/components/schemas/Tensor"}
    entry = _object(
        ("name", "version", "state", "reason"), name=_STRING, version=_STRING, state=_STRING, reason=_STRING
    )
    return {
        "Error": _object(("error",), error=_STRING),
        "Live": _object(("live",), live={"type": "boolean"}),
        "Ready": _object(("ready",), ready={"type": "boolean"}, name=_STRING, parameters=_PARAMETERS),
        "Server": _object(("name", "version"), name=_STRING, version=_STRING, extensions=_list(_STRING)),
        "Index": _list(entry),
        "Tensor": tensor,
        "Model": _object(
            ("name", "versions", "platform", "inputs", "outputs"),
            name=_STRING,
            versions=_list(_STRING),
            platform=_STRING,
            inputs=_list(described),
            outputs=_list(described),
            parameters={"type": "object"},
        ),
        "InferenceRequest": _object(
            ("inputs",), id=_STRING, parameters=_PARAMETERS, inputs=_list(answered), outputs=_list(output)
        ),
        "InferenceResponse": _object(
            ("model_name", "outputs"),
            model_name=_STRING,
            model_version=_STRING,
            id=_STRING,
            parameters=_PARAMETERS,
            outputs=_list(answered),
        ),
    }

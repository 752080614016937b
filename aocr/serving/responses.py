"""TensorFlow Serving's messages about models, for both doors."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from aocr.serving.servable import Servable
from aocr.serving.version_manager import Status

SIGNATURES = "signature_def"
_FAILED = 2  # UNKNOWN among the error codes


def status(statuses: Mapping[int, Status]) -> get_model_status_pb2.GetModelStatusResponse:
    """The reply of `GetModelStatus`."""
    states = get_model_status_pb2.ModelVersionStatus.State
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, told in statuses.items():
        one = response.model_version_status.add(version=number, state=states.Value(told.state))
        one.status.error_message = told.error
        one.status.error_code = _FAILED if told.error else 0
    return response


def metadata(name: str, servable: Servable) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The reply of `GetModelMetadata`."""
    response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=_spec(name, servable))
    response.metadata[SIGNATURES].Pack(_signatures(servable))
    return response


def status_json(statuses: Mapping[int, Status]) -> bytes:
    """The same for REST."""
    return _print(_plain(status(statuses)))


def metadata_json(name: str, servable: Servable) -> bytes:
    """The same for REST, which knows the map of signatures by its fields alone."""
    return _print({"model_spec": _plain(_spec(name, servable)),
                   "metadata": {SIGNATURES: _plain(_signatures(servable))}})


def _spec(name: str, servable: Servable) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name="")
    spec.version.value = servable.version
    return spec


def _signatures(servable: Servable) -> get_model_metadata_pb2.SignatureDefMap:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(definition)
    return signatures


def _plain(message: Message) -> dict[str, object]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True,
                                     always_print_fields_with_no_presence=True)


def _print(document: object) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

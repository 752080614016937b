"""Responses about the model, status and metadata, as TensorFlow Serving defines them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from aocr.serving.servable import Servable
from aocr.serving.version_manager import VersionStatus

SIGNATURE_DEF = "signature_def"
_UNKNOWN = 2  # among the error codes of TensorFlow


def status(statuses: Mapping[int, VersionStatus]) -> get_model_status_pb2.GetModelStatusResponse:
    """Returns the response of `GetModelStatus`.

    Args:
        statuses: Status of each version.
    """
    states = get_model_status_pb2.ModelVersionStatus.State
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, version_status in statuses.items():
        message = response.model_version_status.add(
            version=version, state=states.Value(version_status.state))
        message.status.error_message = version_status.error
        message.status.error_code = _UNKNOWN if version_status.error else 0
    return response


def metadata(name: str, servable: Servable) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Returns the response of `GetModelMetadata`."""
    response = get_model_metadata_pb2.GetModelMetadataResponse(
        model_spec=_model_spec(name, servable))
    response.metadata[SIGNATURE_DEF].Pack(_signatures(servable))
    return response


def status_json(statuses: Mapping[int, VersionStatus]) -> bytes:
    """Returns the status response of the REST API."""
    return _encode(_to_dict(status(statuses)))


def metadata_json(name: str, servable: Servable) -> bytes:
    """Returns the metadata response of the REST API, which has no `Any` around the signatures."""
    return _encode({"model_spec": _to_dict(_model_spec(name, servable)),
                    "metadata": {SIGNATURE_DEF: _to_dict(_signatures(servable))}})


def _model_spec(name: str, servable: Servable) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name, signature_name="")
    spec.version.value = servable.version
    return spec


def _signatures(servable: Servable) -> get_model_metadata_pb2.SignatureDefMap:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(definition)
    return signatures


def _to_dict(message: Message) -> dict[str, object]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True,
                                     always_print_fields_with_no_presence=True)


def _encode(document: object) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"

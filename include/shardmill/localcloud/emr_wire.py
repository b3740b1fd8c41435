"""EMR on the wire: JSON 1.1 over HTTP in, an operation of the API, JSON out."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterable
from typing import Any

import botocore.session
from botocore.validate import ParamValidator
from werkzeug.wrappers import Request, Response

from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.fault_board import FaultBoard
from shardmill.localcloud.request_refused import RefusedError

_LOG = logging.getLogger(__name__)
_CONTENT_TYPE = "application/x-amz-json-1.1"


class EmrApp:
    """A WSGI application that speaks EMR's protocol; requests are checked against botocore's service model."""

    def __init__(self, api: EmrApi, faults: FaultBoard) -> None:
        self._api = api
        self._faults = faults
        self._model = botocore.session.get_session().get_service_model("emr")
        self._validator = ParamValidator()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        operation = request.headers.get("X-Amz-Target", "").partition(".")[2]
        try:
            if self._faults.strikes_call("throttle", operation):
                raise RefusedError("Rate exceeded", "ThrottlingException")
            response = _answer(200, self._perform(operation, request.get_data()))
            if self._faults.strikes_call("lost_answer", operation):
                _hang_up(environ, operation)
        except RefusedError as error:
            _LOG.info("refused operation=%s message=%s", operation, error)
            response = _answer(400, {"__type": error.code, "message": str(error)})
        return response(environ, start_response)

    def _perform(self, operation: str, body: bytes) -> dict[str, Any]:
        perform = self._api.operations.get(operation)
        if perform is None:
            raise RefusedError(f"The local EMR does not know the operation {operation!r}.", "InvalidRequestException")
        try:
            parameters = json.loads(body or b"{}")
        except ValueError as error:
            raise RefusedError(f"The request is no JSON: {error}", "SerializationException") from error
        shape = self._model.operation_model(operation).input_shape
        if shape is not None:
            report = self._validator.validate(parameters, shape)
            if report.has_errors():
                raise RefusedError(report.generate_report())
        return perform(parameters)


def _hang_up(environ: dict[str, Any], operation: str) -> None:
    """Close the connection without an answer: what was asked for has taken effect."""
    _LOG.info("the answer is lost operation=%s", operation)
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError(f"the answer to {operation} is lost on request")


def _answer(status: int, content: dict[str, Any]) -> Response:
    return Response(json.dumps(content), status, content_type=_CONTENT_TYPE)

"""What botocore's service models and our files of whole requests say of a request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import botocore.session
import botocore.validate

GOLDEN = Path(__file__).parent / "golden"


def validate(operation: str, request: dict[str, Any], service: str = "emr") -> str:
    """Give what the service's model has against a request; empty for nothing."""
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    return str(botocore.validate.ParamValidator().validate(request, model.input_shape).generate_report())


def golden(name: str, value: object) -> object:
    """Give what a file of ours holds; write it first where SHARDMILL_WRITE_GOLDEN=1 asks for it."""
    path = GOLDEN / name
    if os.environ.get("SHARDMILL_WRITE_GOLDEN") == "1":
        path.write_text(json.dumps(value, indent=2) + "\n")
    return json.loads(path.read_text())

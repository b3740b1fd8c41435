"""The HTTP side of the local AWS: moto's S3, EC2, IAM and STS, and our EMR, on one loopback port."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# moto reads these when it is imported. No page of a browser is to read what is served here; no public image is ours.
os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

from shardmill.localcloud.durable_s3 import DurableS3
from shardmill.localcloud.emr_api import EmrApi
from shardmill.localcloud.emr_wire import EmrApp
from shardmill.localcloud.fault_board import FaultBoard, FaultsApp
from shardmill.localcloud.fault_state import FAULTS_PATH
from shardmill.localcloud.folder_page import (
    LOCKED_FOLDER,
    Listed,
    folder_of,
    folder_page,
    is_asked_by_a_page,
    is_opened_in_a_tab,
    is_signed,
    locked_up,
)
from shardmill.localcloud.image_refusals import Image
from shardmill.localcloud.refusals import Holdings

HOST = "127.0.0.1"
REGION = "us-east-1"
_AS_SIGNED = "AWS4-HMAC-SHA256 Credential=browser/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""What moto wants to see before it gives an object away; it checks nothing of it."""
WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of requests: errors are logged where they are found."""


def account_holdings() -> Holdings:
    """Look up what the account holds of the things that an EMR request names."""
    images = ec2_backends[DEFAULT_ACCOUNT_ID][REGION].amis.values()
    iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    return Holdings(
        images={image.id: _image(image) for image in images if image.state == "available"},
        roles=frozenset(role.name for role in iam.roles.values()),
        instance_profiles=frozenset(profile.name for profile in iam.instance_profiles.values()),
    )


def _image(image: Ami) -> Image:
    volumes = [one["Ebs"] for one in image.block_device_mappings if "Ebs" in one]
    return Image(
        root_gib=int(volumes[0]["VolumeSize"]) if volumes else 0,
        architecture=image.architecture or "x86_64",
        virtualization=image.virtualization_type or "hvm",
        root_device=image.root_device_type,
        volumes=len(volumes),
        words=f"{image.name} {image.description}",
    )


def listen(port: int) -> socket.socket:
    """Listen on a loopback port, or on a free one where it is taken."""
    for wanted in (port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, wanted))
        except OSError:
            listener.close()
            if wanted == 0:
                raise
            continue
        listener.listen(128)
        return listener
    raise AssertionError("unreachable: a free port was bound or its refusal raised")


class _Dispatcher:
    """Refuse what comes from a web page, hand on the rest to the service that it is signed for."""

    def __init__(self, api: EmrApi, s3_folder: Path, faults: FaultBoard) -> None:
        self._api = api
        self._s3_folder = s3_folder
        self._faults = faults
        self._faults_app = FaultsApp(faults, list(api.operations))
        self._services = DomainDispatcherApplication(self._make_app)

    def _make_app(self, service: Any) -> Any:
        if service == "s3":
            return DurableS3(create_backend_app(service), self._s3_folder)
        if service == "emr":
            return EmrApp(self._api, self._faults)
        if service in ("ec2", "iam", "sts"):
            return create_backend_app(service)
        return Response(f"The local AWS serves S3, EC2, IAM, STS and EMR; this was for {service}.\n", 501)

    def load(self) -> None:
        """Read S3's content from disk now, not at the first request."""
        self._services.app_instances["s3"] = self._make_app("s3")

    def _listed(self, bucket: str) -> list[Listed] | None:
        held: Any = self._services.app_instances["s3"]
        return held.listed(bucket) if isinstance(held, DurableS3) else None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Browsers name the page that a request comes from; the SDKs never do. A step runs code: no page may add one.
        if is_asked_by_a_page(environ):
            return Response("Requests from web pages are refused.\n", 403)(environ, start_response)
        if environ.get("PATH_INFO") == FAULTS_PATH:
            return self._faults_app(environ, start_response)
        if is_opened_in_a_tab(environ):
            # Whatever the query asks for, such as another type: what is answered to a browser is locked up.
            if (folder := folder_of(environ)) and (listed := self._listed(folder[0])) is not None:
                start_response = locked_up(start_response, environ["PATH_INFO"], LOCKED_FOLDER)
                return folder_page(*folder, listed)(environ, start_response)
            start_response = locked_up(start_response, environ["PATH_INFO"])
            if not is_signed(environ):
                environ["HTTP_AUTHORIZATION"] = _AS_SIGNED
        answer: Iterable[bytes] = self._services(environ, start_response)
        return answer


class CloudServer:
    """The listening server; it answers from threads of its own until it is closed."""

    def __init__(self, api: EmrApi, s3_folder: Path, port: int, faults: FaultBoard | None = None) -> None:
        dispatcher = _Dispatcher(api, s3_folder, faults or FaultBoard())
        dispatcher.load()
        listener = listen(port)
        self.port: int = listener.getsockname()[1]
        self._server: BaseWSGIServer = make_server(
            HOST, self.port, dispatcher, threaded=True, request_handler=_QuietHandler, fd=listener.detach()
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="http", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """The URL that AWS_ENDPOINT_URL takes."""
        return f"http://{HOST}:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

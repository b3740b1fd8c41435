"""Asynchronous and hogwild training: workers add what they learned to weights that a server holds."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import keras
from elephas.parameter import HttpClient, HttpServer
from elephas.parameter.factory import ClientServerFactory
from elephas.spark_model import AsynchronousSparkModel
from elephas.utils.serialization import bytes_to_weights, weights_to_bytes
from elephas.utils.sockets import determine_master

from shardmill.adapters.elephas_training.workers import (
    ELEPHAS,
    Report,
    Trained,
    TrainingRows,
    Weights,
    measured_losses,
    model_text,
    progress_line,
)
from shardmill.specs.training import TrainSpec

CALL_SECONDS = 60.0
"""A call to the server takes milliseconds; after so long its answer is lost."""
STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
# Without proxies: the server is on this machine or in this cluster, whatever the environment says.
_OPENER = build_opener(ProxyHandler({}))


class ParameterServerError(RuntimeError):
    """The server that holds the weights is gone."""


class BoundedClient(HttpClient):
    """Elephas' client, with a time limit to each call."""

    def _call(self, path: str, content: bytes | None = None) -> bytes:
        request = Request(f"http://{self.master_url}/{path}", data=content, headers=self.headers)
        with _OPENER.open(request, timeout=CALL_SECONDS) as answer:
            return bytes(answer.read())

    def get_parameters(self) -> Weights:
        return list(bytes_to_weights(self._call("parameters")))

    def update_parameters(self, delta: Weights) -> bytes:
        return self._call("update", weights_to_bytes(delta))


class BoundedServer(HttpServer):
    """Elephas' server without Flask's debugger, ended by the kernel when the driver dies."""

    def __init__(self, model: dict[str, Any], port: int, mode: str, **options: Any) -> None:
        super().__init__(model, port, mode, **options)
        self.debug = False
        self.server.daemon = True

    def start_flask_service(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT):  # the driver's handlers belong to Spark
            signal.signal(number, signal.SIG_DFL)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else a line for every call
        super().start_flask_service()

    def stop(self) -> None:
        if self.server.pid is None:
            return
        self.server.terminate()
        self.server.join(STOP_SECONDS)
        if self.server.is_alive():
            self.server.kill()
            self.server.join()
        self.server.close()


class BoundedFactory(ClientServerFactory):
    """How Elephas finds the two above."""

    _type = "bounded_http"

    def create_client(self, port: int) -> BoundedClient:
        return BoundedClient(port)

    def create_server(self, *arguments: Any, **options: Any) -> BoundedServer:
        return BoundedServer(*arguments, **options)


class AsynchronousModel(AsynchronousSparkModel):
    """Elephas' asynchronous model, which ends its server also when training fails."""

    @contextmanager
    def run_parameter_server(self) -> Iterator[None]:
        try:
            self.parameter_server.start()
            yield
        except Exception as error:
            if self.parameter_server.server.is_alive():
                raise
            raise ParameterServerError(
                "Elephas' parameter server ended before the training did, and the weights with it: train again"
            ) from error
        finally:
            self.parameter_server.stop()


def _free_port() -> int:
    host = determine_master(0).split(":")[0]
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def train_asynchronously(model: keras.Model, rows: TrainingRows, spec: TrainSpec, report: Report) -> Trained:
    """Train without waiting for one another; ``hogwild`` also without locks on the server.

    Elephas reports no losses here: they are measured before and after. Every worker's whole step is added, so that
    the weights move about as often faster as there are workers.
    """
    text = model_text(model)
    before = measured_losses(0, rows, text, model.get_weights())
    report(f"{progress_line(before, spec.epochs)}; from here Elephas says nothing until the end")
    elephas_model = AsynchronousModel(
        model, mode=spec.mode, frequency=spec.frequency, parameter_server_mode=BoundedFactory._type, port=_free_port()
    )
    fit = {"epochs": spec.epochs, "batch_size": spec.worker_batch_size, "verbose": 0, "validation_split": 0.0}
    start = time.monotonic()
    elephas_model.fit(rows.train, **fit)
    seconds = time.monotonic() - start
    after = measured_losses(spec.epochs, rows, text, model.get_weights())
    report(progress_line(after, spec.epochs))
    return Trained(
        model.get_weights(), (before, after), f"{ELEPHAS}, {spec.mode}, exchange every {spec.frequency}", seconds
    )

"""What is asked of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from shardmill.specs.value import Spec, named

Trainer = Literal["single", "local_sgd", "allreduce", "one_shot_average", "elephas"]
Schedule = Literal["constant", "cosine", "step"]
RateScaling = Literal["no", "linear", "sqrt"]
ClassWeights = Literal["none", "balanced"]
Precision = Literal["auto", "float32", "bfloat16"]
BILSTMS = ("two_stream_bilstm", "rgb_bilstm")
"""Those that have a step of our own on CPUs."""
OUR_MODELS = (*BILSTMS, "video_level_dense")
"""The models of `adapters.keras_models`, named here so that a wrong name is refused before anything is paid for."""
MODEL_PATTERN = r"^([a-z][a-z0-9_]{0,63}|[A-Za-z_][A-Za-z0-9_.]{0,199}:[A-Za-z_][A-Za-z0-9_]{0,63})$"
"""A name among our models, or ``package.module:function`` of the user's own."""


TRAINERS = {
    "single": "one worker alone",
    "local_sgd": "local SGD: means every few steps",
    "allreduce": "all-reduce: means at every step",
    "one_shot_average": "one mean, at the end",
    "elephas": "Elephas",
}
SCHEDULES = {"constant": "constant", "cosine": "down along a cosine", "step": "a tenth after each third"}
CLASS_WEIGHTS = {"none": "all labels alike", "balanced": "rare labels weigh more"}
PRECISIONS = {"auto": "the faster on the machine", "float32": "float32", "bfloat16": "bfloat16"}
FREQUENCIES = {"epoch": "once an epoch", "batch": "after every batch"}
RATE_SCALINGS = {"no": "not at all", "linear": "by the number of workers", "sqrt": "by its square root"}


class TrainSpec(Spec):
    """Train a model of frames or of videos by workers on Spark."""

    model: str = Field("two_stream_bilstm", pattern=MODEL_PATTERN, examples=[*OUR_MODELS, "my_package.models:build"])
    """A model of ours by name, or `package.module:function` of your own that builds one."""
    trainer: Trainer = Field("local_sgd", json_schema_extra=named(TRAINERS))
    """How workers combine what they learned: one alone, means every few steps, at every step, or once; or Elephas."""
    mode: Literal["synchronous", "asynchronous", "hogwild"] = Field("synchronous", title="Elephas: mode")
    """Elephas only: how its workers exchange weights."""
    frequency: Literal["epoch", "batch"] = Field(
        "epoch", title="Elephas: exchange", json_schema_extra=named(FREQUENCIES)
    )
    """Elephas only: when asynchronous workers exchange weights."""
    workers: int = Field(2, ge=1, le=256)
    """Number of workers, each a Spark task."""
    epochs: int = Field(12, ge=1, le=1000)
    """Passes over the training records."""
    batch_size: int = Field(32, title="Batch size (examples)", ge=1, le=65_536)
    """Examples in one step of all workers together; each takes an equal share, one at least."""
    learning_rate: float = Field(0.003, gt=0, le=1)
    """Step size of Adam."""
    rgb_units: int = Field(32, title="Units for pictures", ge=1, le=2048)
    """Units of the LSTM over frames, in each direction."""
    audio_units: int = Field(16, title="Units for sound", ge=1, le=2048)
    """Units of the LSTM over audio, in each direction."""
    dense_units: int = Field(64, title="Units behind both", ge=1, le=8192)
    """Units of the dense layer behind both streams."""
    seed: int = Field(1, ge=0, le=2**31 - 1)
    """Seed of the weights and of the order of examples."""
    average_every: int = Field(8, title="Average every (steps)", ge=1, le=1_000_000)
    """`local_sgd` only: steps of each worker between two averages."""
    schedule: Schedule = Field("constant", title="Learning rate over time", json_schema_extra=named(SCHEDULES))
    """How the learning rate goes over the epochs: constant, down to 0 along a cosine, or a tenth after each third."""
    scale_learning_rate: RateScaling = Field("no", json_schema_extra=named(RATE_SCALINGS))
    """Multiply the learning rate by the number of workers, by its square root, or not."""
    early_stopping_epochs: int = Field(0, title="Stop early after (epochs)", ge=0, le=1000)
    """End when the validation loss was not the lowest for so many epochs, and keep the best weights; 0 for never."""
    class_weights: ClassWeights = Field("none", title="Weights of labels", json_schema_extra=named(CLASS_WEIGHTS))
    """`balanced` weighs a rare label's positives more in the loss."""
    precision: Precision = Field("auto", json_schema_extra=named(PRECISIONS))
    """Of our bi-LSTMs on CPUs: in which type frames meet weights; the weights themselves stay float32."""
    checkpoint_minutes: float = Field(10.0, title="Save every (minutes)", gt=0, le=1440)
    """Training is saved so often, and at the end of an epoch; a try that is lost goes on from there."""
    stall_seconds: float = Field(300.0, title="Dead after silence (seconds)", ge=5, le=86_400)
    """A worker that was silent for so many seconds while others wait is taken for dead."""

    @field_validator("model")
    @classmethod
    def _model_is_known(cls, model: str) -> str:
        if ":" not in model and model not in OUR_MODELS:
            raise ValueError(f"expected one of {', '.join(OUR_MODELS)}, or package.module:function, found {model!r}")
        return model

    @property
    def ranks(self) -> int:
        """Number of workers that train: one alone where the trainer is `single`."""
        return 1 if self.trainer == "single" else self.workers

    @property
    def worker_batch_size(self) -> int:
        """Examples that a worker takes in one step, rounded up."""
        return -(-self.batch_size // self.ranks)

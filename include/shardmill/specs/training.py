"""What is asked of training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shardmill.specs.value import Spec


class TrainSpec(Spec):
    """Train a two-stream bi-LSTM by Elephas."""

    mode: Literal["synchronous", "asynchronous", "hogwild"] = "synchronous"
    """How workers exchange weights."""
    frequency: Literal["epoch", "batch"] = "epoch"
    """When asynchronous workers exchange weights."""
    workers: int = Field(2, ge=1, le=256)
    """Number of workers, each a Spark task."""
    epochs: int = Field(12, ge=1, le=1000)
    """Passes over the training records."""
    batch_size: int = Field(16, ge=1, le=4096)
    """Examples a worker takes in one step."""
    learning_rate: float = Field(0.003, gt=0, le=1)
    """Step size of Adam."""
    rgb_units: int = Field(32, ge=1, le=2048)
    """Units of the LSTM over frames, in each direction."""
    audio_units: int = Field(16, ge=1, le=2048)
    """Units of the LSTM over audio, in each direction."""
    dense_units: int = Field(64, ge=1, le=8192)
    """Units of the dense layer behind both streams."""
    seed: int = Field(1, ge=0, le=2**31 - 1)
    """Seed of the weights and of the order of examples."""

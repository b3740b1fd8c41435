"""Records: YouTube-8M's frame-level SequenceExamples and video-level Examples in TFRecord files, without tensorflow."""

from shardmill.adapters.records.checking import checked_chunks
from shardmill.adapters.records.coding import (
    decode_means,
    decode_record,
    decode_video_record,
    encode_record,
    encode_video_record,
    read_records,
    read_video_records,
    write_records,
)
from shardmill.adapters.records.framing import (
    MAX_RECORD_BYTES,
    Damage,
    Entry,
    RecordError,
    frame,
    read_entries,
    read_payloads,
)
from shardmill.adapters.records.messages import Example, SequenceExample
from shardmill.adapters.records.values import Record, VideoRecord, mean_record
from shardmill.core.frames import AUDIO_VALUES, RGB_VALUES

__all__ = [
    "AUDIO_VALUES",
    "MAX_RECORD_BYTES",
    "RGB_VALUES",
    "Damage",
    "Entry",
    "Example",
    "Record",
    "RecordError",
    "SequenceExample",
    "VideoRecord",
    "checked_chunks",
    "decode_means",
    "decode_record",
    "decode_video_record",
    "encode_record",
    "encode_video_record",
    "frame",
    "mean_record",
    "read_entries",
    "read_payloads",
    "read_records",
    "read_video_records",
    "write_records",
]

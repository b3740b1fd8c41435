"""Shardmill: from buckets of video shards to trained, evaluated classifiers."""

__version__ = "0.1.0"

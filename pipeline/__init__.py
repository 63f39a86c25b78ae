"""The Beam job: sharded text in, pair shards, a vocabulary and a manifest out."""

from pipeline.dataset import __version__

__all__ = ["__version__"]

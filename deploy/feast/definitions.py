"""Word vectors for Feast: an entity, the token; its vector, its count, and the model's version that they come from.

The environment variable PAIRSTREAM_FEATURES names what `pairstream export --format feast` wrote: a file, or a
folder with one file a version; a relative path begins at this file's folder. By default it is `features`.
"""

import os
from pathlib import Path

import pyarrow.dataset
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64, String


def find_features() -> str:
    """Return the URI or the absolute path of the exported vectors."""
    path = os.environ.get("PAIRSTREAM_FEATURES") or "features"
    return path if "://" in path else str(Path(__file__).resolve().parent / path)


def newest_dim(path: str) -> int:
    """Return the length of the vectors in the newest file: the names' order is that of the times."""
    try:
        exported = pyarrow.dataset.dataset(path, format="parquet")
        newest = max(exported.files, default=None)
    except FileNotFoundError:
        newest = None
    if newest is None:
        raise SystemExit(f"error: {path}: found no exported vectors; set PAIRSTREAM_FEATURES to where they are")
    first = pyarrow.dataset.dataset(newest, format="parquet", filesystem=exported.filesystem).head(
        1, columns=["vector"]
    )
    return len(first["vector"][0])


features = find_features()

token = Entity(name="token", join_keys=["token"], value_type=ValueType.STRING, description="a token of the vocabulary")

exports = FileSource(name="exports", path=features, timestamp_field="event_timestamp")

word_vectors = FeatureView(
    name="word_vectors",
    entities=[token],
    schema=[
        Field(name="token", dtype=String),
        Field(
            name="vector",
            dtype=Array(Float32),
            vector_index=True,
            vector_length=newest_dim(features),
            vector_search_metric="cosine",
        ),
        Field(name="count", dtype=Int64),
        Field(name="version", dtype=String),
    ],
    source=exports,
    description="vectors, counts and version of each token, by the time of publication",
)

words = FeatureService(name="words", features=[word_vectors])

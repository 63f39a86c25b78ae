"""Train the real fastText, the peer where words have n-grams; it prints its own rate on stderr.

    PYTHON tests/bench/fasttext_peer.py TEXT VECTORS DIM EPOCHS THREADS ARCHITECTURE SHORTEST LONGEST BUCKETS RATE

PYTHON is one of an environment with fastText (`tests.bench.peers.fasttext_python`). VECTORS is written in word2vec's
binary format, words' vectors composed; after the words of the text those that stdin has, one a line.
"""

from __future__ import annotations

import sys

import fasttext
import numpy as np


def main() -> None:
    """Train and save."""
    text, vectors, dim, epochs, threads, architecture, shortest, longest, buckets, rate = sys.argv[1:]
    model = fasttext.train_unsupervised(
        text, model=architecture, dim=int(dim), ws=5, neg=5, t=1e-3, minCount=5, epoch=int(epochs), lr=float(rate),
        thread=int(threads), minn=int(shortest), maxn=int(longest), bucket=int(buckets), verbose=2,
    )  # fmt: skip
    words = [word for word in model.words if word != "</s>"] + sys.stdin.read().split()
    with open(vectors, "wb") as file:
        file.write(f"{len(words)} {dim}\n".encode())
        for word in words:
            file.write(f"{word} ".encode() + model.get_word_vector(word).astype(np.float32).tobytes() + b"\n")


if __name__ == "__main__":
    main()

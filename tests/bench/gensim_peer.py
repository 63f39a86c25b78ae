"""Train gensim's Word2Vec, the peer of the comparisons; print one JSON line of timings.

    python -m tests.bench.gensim_peer TEXT VECTORS [--epochs 1] [--workers 2] [--alpha 0.025] [--seed 1]
        [--path corpus_file|sentences] [--architecture skipgram|cbow] [--dim 100]

TEXT has one sentence a line, tokens separated by white space. VECTORS is written in word2vec's binary format.
Window 5, 5 negatives, sample 1e-3, min_count 5, as everywhere in these comparisons.
"""

from __future__ import annotations

import argparse
import json
import time

from gensim.models import Word2Vec
from gensim.models.word2vec import LineSentence


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("vectors")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--alpha", type=float, default=0.025, help="the learning rate; 0.025 is gensim's default")
    parser.add_argument("--seed", type=int, default=1)
    # corpus_file is the faster way in, but with W workers its learning rate falls only to 1 − 1/W of its start.
    parser.add_argument("--path", choices=("corpus_file", "sentences"), default="corpus_file")
    parser.add_argument("--architecture", choices=("skipgram", "cbow"), default="skipgram")
    parser.add_argument("--dim", type=int, default=100)
    args = parser.parse_args()
    as_file = args.path == "corpus_file"
    source = {"corpus_file": args.text} if as_file else {"corpus_iterable": LineSentence(args.text)}
    model = Word2Vec(
        vector_size=args.dim, window=5, negative=5, sg=int(args.architecture == "skipgram"), sample=1e-3, min_count=5,
        workers=args.workers, epochs=args.epochs, alpha=args.alpha, seed=args.seed,
    )  # fmt: skip
    start = time.perf_counter()
    model.build_vocab(**source)
    counted = time.perf_counter()
    words = model.corpus_total_words
    model.train(**source, total_words=words, total_examples=model.corpus_count, epochs=args.epochs)
    trained = time.perf_counter()
    model.wv.save_word2vec_format(args.vectors, binary=True)
    print(json.dumps({"words": words, "vocab_s": counted - start, "train_s": trained - counted}))


if __name__ == "__main__":
    main()

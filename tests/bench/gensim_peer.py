"""Train gensim's Word2Vec on a text file of one sentence a line; print one JSON line of timings."""

from __future__ import annotations

import json
import sys
import time

from gensim.models import Word2Vec
from gensim.models.word2vec import LineSentence

text, vectors, epochs, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
as_sentences = sys.argv[5:] == ["sentences"]  # the slower way in, which decays the learning rate to its end
source = {"corpus_iterable": LineSentence(text)} if as_sentences else {"corpus_file": text}
model = Word2Vec(
    vector_size=100, window=5, negative=5, sg=1, sample=1e-3, min_count=5, workers=workers, epochs=epochs, seed=1
)
start = time.perf_counter()
model.build_vocab(**source)
counted = time.perf_counter()
model.train(**source, total_words=model.corpus_total_words, total_examples=model.corpus_count, epochs=epochs)
trained = time.perf_counter()
model.wv.save_word2vec_format(vectors, binary=True)
words = model.corpus_total_words
print(json.dumps({"words": words, "vocab_s": counted - start, "train_s": trained - counted}))

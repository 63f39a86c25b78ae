"""Word vectors in Python, as `trainer.load` returns them: by the names of gensim's KeyedVectors."""

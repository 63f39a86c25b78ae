"""Scores on word-similarity and analogy files, and how far one model is from another."""

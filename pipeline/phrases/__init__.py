"""Neighbouring words that are one token: which pairs are phrases, and joining them.

In: tokens. Out: a file of phrases for each round, and tokens in which they are joined. Next: `pipeline.vocabulary`.
"""

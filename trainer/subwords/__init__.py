"""Subwords, as fastText has them: a word's vector is the mean of its own row and those of its character n-grams.

In: tokens and the rule (lengths, buckets). Out: the rows of the input table that each word is the mean of, and that
mean. `models` keeps both with the word vectors.
"""

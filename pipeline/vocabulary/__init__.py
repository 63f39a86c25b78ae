"""From tokens to counts, and from counts to ids.

In: tokens of many chunks. Out: the vocabulary file, and a lookup from a token's bytes to its id. Next:
`pipeline.pairs`.
"""

"""From chunks of bytes to tokens and sentences.

In: a chunk. Out: normalised text, the spans of its tokens and sentences, and the dead letters. Next:
`pipeline.vocabulary`, or `pipeline.phrases` where words are joined first.
"""

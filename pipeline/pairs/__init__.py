"""From ids to pair shards.

In: sentences of ids, the statistics of all chunks. Out: the plan that deals chunks to shards, subsampled sentences, and
(center, context) pairs. Next: `pipeline.dataset` writes them, `pipeline.publishing` publishes them.
"""

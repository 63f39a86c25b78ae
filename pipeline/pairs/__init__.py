"""From ids to pair shards.

In: sentences of ids, the statistics of all chunks. Out: which chunks make up each shard, subsampled sentences, and
(center, context) pairs. Next: `pipeline.dataset` writes them, `pipeline.publishing` publishes them.
"""

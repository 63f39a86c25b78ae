"""The training side: pair shards in, word vectors out. Of `pipeline` it imports `pipeline.dataset` alone."""

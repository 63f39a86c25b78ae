"""What happens to a chunk, a partition or a shard: plain functions, which `pipeline.transforms` wires together."""

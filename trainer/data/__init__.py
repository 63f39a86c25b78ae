"""From shards to batches: the one way that the training loop and PyTorch's loaders share.

In: a dataset. Out: batches of pairs in a seeded order, shared among ranks and workers, with an exact position.
Next: `trainer.training`.
"""

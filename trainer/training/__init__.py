"""The train command: its session, its loop, and what ends or follows it.

In: a TrainConfig. Out: a published version of a model. It puts `data`, `engines`, `distributed`, `checkpoints` and
`models` together.
"""

"""What updates the tables: the readable reference, the compiled CPU engine, the GPU engine.

In: batches of pairs and a learning rate. Out: the two tables, changed. `kernels/` holds the compiled steps.
"""

"""Any URI as files and byte ranges: local paths, object stores, and what smart-open reads.

In: a URI. Out: bytes, listings, and one write that swaps a pointer only where it is as it was. The ground floor: every
other package may import this one, the trainer too.
"""

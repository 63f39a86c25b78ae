"""The contract between pipeline and trainer: format version 1, described in README.md next to this file.

Nothing here imports apache_beam or torch, so that either side can read a dataset without the other's stack.
"""

__version__ = "0.1.0"

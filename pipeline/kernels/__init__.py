"""The loops that a chunk's bytes, tokens and pairs go through, compiled by Numba; each has a readable twin outside."""

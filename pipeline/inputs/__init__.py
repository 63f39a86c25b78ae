"""From URIs and globs to chunks of text.

In: what --input names. Out: a listing of files, parts of them for workers, and chunks of UTF-8 text, decompressed
and taken out of records. Next: `pipeline.text`.
"""

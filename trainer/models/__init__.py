"""Finished models: versions on disk or in a store, the pointer to the live one, mapping them without reading."""

"""The commands `versions` and `rollback`: which versions a model has, and making another one live."""

"""The neighbors command: queries, spelling, and why two words are near."""

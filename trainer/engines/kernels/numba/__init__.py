"""The CPU kernel: one window a step, in explicit vector code."""

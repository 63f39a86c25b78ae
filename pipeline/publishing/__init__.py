"""What makes a run visible, and what takes old ones away.

In: what the stages wrote. Out: a manifest and the pointer to it; reports; leases; the commands list, verify, publish
and clean.
"""

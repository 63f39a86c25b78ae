"""The Beam job: sharded text in, pair shards, a vocabulary and a manifest out."""

"""What all readers of vectors share: lengths, cosines, the nearest rows, and which token a word means."""

"""What a training starts from: a model of ours, or vectors in a file of word2vec or fastText. `training` follows."""

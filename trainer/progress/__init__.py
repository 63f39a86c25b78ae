"""What shows how a training goes: the progress line, the loss curve, TensorBoard's files."""

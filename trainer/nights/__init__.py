"""What one run of scheduled retraining is made of; `trainer.retrain` puts it together."""

"""The retrain command: look for new text, make the dataset, train, measure, and publish what passes the gate."""

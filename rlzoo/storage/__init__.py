"""What survives a run: checkpoints, and files that are whole or not there."""

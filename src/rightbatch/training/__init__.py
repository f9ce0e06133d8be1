"""Batches to a model: built-in models, the training step, fit, evaluation, checkpoints."""

"""Samples to batches: parts, transforms, gathering, prefetching, resuming."""

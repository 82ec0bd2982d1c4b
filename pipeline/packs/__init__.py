"""Packs: training samples for a machine with a GPU and little else, and the training there."""

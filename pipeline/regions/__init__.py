"""Region proposals of a grid and their ranking: what segmentation makes, and what evaluation counts."""

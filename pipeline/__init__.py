"""PartGen: part-level 3D generation and reconstruction with multi-view diffusion models."""

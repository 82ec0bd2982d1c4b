"""Reconstruction of objects and parts from their 2x2 grids: fields, their renderer, the splatter, the LRM."""

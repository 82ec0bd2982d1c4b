"""Cameras and the 2x2 grid, BlenderProc renders, pyrender label maps."""

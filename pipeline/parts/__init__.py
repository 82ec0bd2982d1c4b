"""The method on one grid of views: its segmentation, its label maps, and the completion of its parts."""

"""Sources of 3D objects, loading, grouping geometry into parts, normalising, and the train/val/test split."""

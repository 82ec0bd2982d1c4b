"""What a training needs before anyone starts it: parameters, memory, FLOPs and GPU-hours, from the meta device."""

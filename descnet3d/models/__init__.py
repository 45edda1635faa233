"""Energy-based models of voxelised shapes, and what they are trained by."""

"""A folder of one's own shapes on voxel grids."""

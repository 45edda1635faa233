"""ModelNet10 and ModelNet40 on voxel grids."""

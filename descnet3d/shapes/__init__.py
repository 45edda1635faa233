"""A shape in memory: occupancy, meshes, voxelisation, poses, corruptions, pictures."""

"""From a recipe to a preset: recipes, phases, the run, its checkpoints, fine-tuning."""

"""E(Y), and how it is descended: Langevin dynamics, chains, constraints, objectives, gradients."""

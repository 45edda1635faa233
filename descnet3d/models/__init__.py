"""Keras models of shapes: networks, generators, descriptors, classifiers, and their saving."""

"""Keras models of shapes: networks, generators, descriptors, classifiers, and their saving.

SavedModel                    named networks and settings, in a preset's folder
├── ShapeModel                a Keras model (KerasModel) whose `fit` takes occupancy
│   ├── DescriptorNet         E(Y), how it learns (EnergyLearning) and is sampled (LangevinSampler)
│   │   └── CooperativeNet    and the generator that it teaches (LatentSpace, Teaching)
│   ├── Autoencoder           a generator's first lesson
│   └── SupervisedClassifier
└── FeatureClassifier         a descriptor's features, and a regression on them
"""

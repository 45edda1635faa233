"""Keras models of shapes: networks, generators, descriptors, classifiers, and their saving.

SavedModel                          named networks and settings, in a preset's folder
├── ShapeModel                      a Keras model (KerasModel) whose `fit` takes occupancy
│   ├── EnergyBasedModel            E(Y): `synthesize`, `recover`, `super_resolve`, `features`
│   │   ├── DescriptorNet           of clean shapes; learns by EnergyLearning, LangevinSampler
│   │   │   └── CooperativeNet      and the generator that it teaches (LatentModel, Teaching)
│   │   └── ComposedModel           of several categories: one of them, or sums
│   │       └── AnnealedDescriptor  at every noise level; what nearly all presets are, with
│   │                               latents (LatentModel); also a DenoisingModel
│   ├── DenoisingModel              learns to draw shapes from noisy ones (ConditionalEnergy)
│   │   └── SurfaceDescriptor       E(Y | coarser shape): `refine`, on grids of any size
│   ├── Autoencoder                 a generator's first lesson
│   └── SupervisedClassifier
└── FeatureClassifier               a descriptor's features, and a regression on them
"""

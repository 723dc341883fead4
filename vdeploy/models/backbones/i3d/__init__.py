"""I3D, a 3-D convolutional network trained on Kinetics-400: features of short segments of a clip."""

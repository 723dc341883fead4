"""Hard-negative mining: windows of video without violence that a model takes for violence become training clips.

The idea is bootstrapping, Sung & Poggio 1998, "Example-Based Learning for View-Based Human Face Detection", sec. 2.4.3:
run the detector over images without the object, and add what it finds to the negative examples.
"""

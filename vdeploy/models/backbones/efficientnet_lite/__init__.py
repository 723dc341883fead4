"""EfficientNet-Lite, small convolutional networks for edge devices trained on ImageNet: features of single frames."""

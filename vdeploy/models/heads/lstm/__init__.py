"""An LSTM over the features of a clip."""

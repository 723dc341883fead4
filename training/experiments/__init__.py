"""Studies of many trainings: ablation, hyperparameter search and the learning-rate range test."""

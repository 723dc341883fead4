"""Evaluation: metrics, calibration and thresholds."""

"""ONNX: conversion, inspection, precision."""

"""Encoders that others exported to ONNX, fed with windows by what their inputs are called."""

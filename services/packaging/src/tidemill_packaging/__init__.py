"""Tidemill packaging: turns a trained model into a proven, signed ONNX package."""

"""Rankers of the literature: trained with torch, served by onnxruntime without it."""

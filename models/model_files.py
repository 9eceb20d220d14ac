"""What kinds of models there are, and what their files in an artifact are called; needs no torch."""

#: The kinds, as config.json names them under `encoder`.
TOWERS, ADOPTED = "dual-towers", "onnx"
#: The towers' weights; an adopted encoder's graph, and by which numbers it knows items.
WEIGHTS, GRAPH, INDICES = "weights.safetensors", "encoder.onnx", "indices.safetensors"

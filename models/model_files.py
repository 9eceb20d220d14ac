"""What kinds of models there are, and what their files in an artifact are called; needs no torch."""

#: The kinds, as config.json names them under `encoder`.
TOWERS, ADOPTED, RANKER = "dual-towers", "onnx", "ranker"
FACTORS, TWO_TOWER, RECURRENT_GRAPH = "matrix-factorisation", "two-tower", "recurrent-graph"
#: Weights, of towers and of factors; an adopted encoder's graph, and by which numbers it knows items.
WEIGHTS, GRAPH, INDICES = "weights.safetensors", "encoder.onnx", "indices.safetensors"
#: A ranker's graphs, and what it gives golden users' candidates; its weights are called as the towers'.
USER_GRAPH, CANDIDATE_GRAPH, GOLDEN = "user.onnx", "candidates.onnx", "golden.safetensors"
#: The ids of the users of whom two towers know more than their windows.
USERS = "users.msgpack"

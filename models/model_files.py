"""What kinds of models there are, and what their files in an artifact are called; needs no torch."""

#: The kinds, as config.json names them under `encoder`.
TOWERS, ADOPTED, RANKER = "dual-towers", "onnx", "ranker"
FACTORS, TWO_TOWER, RECURRENT_GRAPH = "matrix-factorisation", "two-tower", "recurrent-graph"
#: Weights, of towers and of factors; an adopted encoder's graph, and by which numbers it knows items.
WEIGHTS, GRAPH, INDICES = "weights.safetensors", "encoder.onnx", "indices.safetensors"
#: A ranker's graphs, and what it gives golden users' candidates; its weights are called as the towers'.
USER_GRAPH, CANDIDATE_GRAPH, GOLDEN = "user.onnx", "candidates.onnx", "golden.safetensors"
#: What config.json calls several rankers in one, and which files of each they have, by its number.
ENSEMBLE = "ensemble"
MEMBER_FILES = (WEIGHTS, USER_GRAPH, CANDIDATE_GRAPH)
#: The ids of the users of whom two towers know more than their windows.
USERS = "users.msgpack"


def member_file(number: int, name: str) -> str:
    """Return what a file of a ranker is called in an artifact of several."""
    return f"member{number}-{name}"

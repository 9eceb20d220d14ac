"""Does what the servers hold follow from the events of the topic? `python -m local.proof`."""

from local.proof.dead_letters import dead_letters
from local.proof.extent import wait_until_committed
from local.proof.proof import Proof, prove
from local.proof.vectors import VECTOR_TOLERANCE

__all__ = ["VECTOR_TOLERANCE", "Proof", "dead_letters", "prove", "wait_until_committed"]

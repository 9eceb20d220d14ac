"""What a user is and how a vector is made; knows no Kafka, Redis or Faust."""

import os

# Before torch is imported anywhere: its idle threads otherwise spin, and where other processes want the cores
# (a worker beside its broker, two trainings) a step then takes five to twenty times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

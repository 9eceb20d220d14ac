"""What a user is and how a vector is made; knows no Kafka, Redis or Faust."""

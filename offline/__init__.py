"""From a behaviour CSV to an artifact, and from an artifact to stores."""

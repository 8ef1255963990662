"""What the service does, one module each. No library of the edges is imported here."""

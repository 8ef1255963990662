"""What operators see: log lines and metrics. Knows ids and numbers, never a text."""

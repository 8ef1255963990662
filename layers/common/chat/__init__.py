"""The chat service: use cases, their ports, and the adapters behind them. Knows nothing of AWS Lambda."""

"""Any OpenAI-compatible Chat Completions service."""
